"""The flags that every recipe understands, and a command of them and a recipe's own."""

import inspect
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from potstill.errors import UserError
from potstill.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What every recipe understands.

    Attributes:
        runs_dir: Where run folders are.
        seeds: How many seeds, counted up from the recipe's first.
        seed: One seed only.
        epochs: Length of every student's training: stages keep their proportion; the teacher's stays.
        views: Augmented views: "shared" by all seeds, "per-seed", or a number, the most that an image may show.
        companion: Every image comes with a second "view", or with a "classmate", as some methods need: here, so that
            others get it too.
        controls: Behind every arm that has a teacher, the same under teachers that know nothing (untrained, asked about
            other images, uniform) and under one of the student's own kind.
        precision: "auto" takes bf16 where the hardware multiplies it and the student is big enough to gain.
        deterministic: Only deterministic kernels, which matters on CUDA.
        device: "auto" takes CUDA, else MPS, else the CPU.
        threads: CPU threads of a process, or "auto".
        devices: Processes that share the batches of a cohort, each on a GPU of its own or on the CPU; "auto" is one, or
            as many as train the run already.
        compile: Whether networks are compiled; "auto" does on CUDA, and for long trainings on AMX.
        jobs: Cohorts trained side by side, or "auto": as many as there are cores, and memory for, where one
            thread serves a cohort.
        teacher_at_least: Refuse a teacher of lower accuracy, a fraction.
        store: Disk space for what teachers say, kept for later runs: of all stores in the folder of runs together, and
            at most half of what is free; or "off".
        events: Whether TensorBoard event files are written into the run folders.
        logger: Tell MLflow or Weights & Biases too.
        quiet: Print nothing but mistakes.
    """

    runs_dir: Path = Path("runs")
    seeds: int | None = None
    seed: int | None = None
    epochs: int | None = None
    views: str | None = None
    companion: Literal["view", "classmate"] | None = None
    controls: bool = False
    precision: Literal["auto", "fp32", "bf16"] | None = None
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: str = "auto"
    devices: str = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    jobs: str = "auto"
    teacher_at_least: float | None = None
    store: str = "10GiB"
    events: Literal["on", "off"] = "on"
    logger: Literal["mlflow", "wandb"] | None = None
    quiet: bool = False


def command_of(recipe: Recipe, flags: type[Flags] = Flags) -> type[Any]:
    """A dataclass whose fields are a recipe's parameters and the common flags, for the parser."""
    hints = get_type_hints(_without_return(recipe))
    own: list[Any] = []
    for parameter in inspect.signature(recipe).parameters.values():
        if parameter.name in {f.name for f in fields(flags)}:
            whose = "every recipe" if parameter.name in {f.name for f in fields(Flags)} else "tune"
            raise UserError(
                f"The recipe {recipe.__name__} has a parameter {parameter.name!r}, which is a flag of {whose}; "
                "call it something else."
            )
        required = parameter.default is inspect.Parameter.empty
        kind = hints.get(parameter.name, str if required else type(parameter.default))
        own.append((parameter.name, kind) if required else (parameter.name, kind, field(default=parameter.default)))
    kinds = get_type_hints(flags, include_extras=True)
    shared = [(f.name, kinds[f.name], field(default=f.default)) for f in fields(flags)]
    made = make_dataclass("Command", [*own, *shared], kw_only=True, frozen=True)
    documentation = inspect.getdoc(recipe) or ""
    text, _, arguments = documentation.partition("Args:")
    common = "".join((inspect.getdoc(kind) or "").partition("Attributes:")[2] for kind in dict.fromkeys((Flags, flags)))
    made.__doc__ = f"{text.strip()}\n\nAttributes:{arguments.rstrip()}{common}"
    return made


def _without_return(recipe: Recipe) -> Any:
    """The recipe's annotations but for what it returns, which may name what only a type checker imports."""

    class Annotations:
        __annotations__ = {k: v for k, v in recipe.__annotations__.items() if k != "return"}

    Annotations.__module__ = recipe.__module__
    return Annotations
