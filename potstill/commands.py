"""The verbs of the command line."""

import inspect
import json
import shlex
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from potstill import recipes
from potstill.errors import RunFailed, UserError


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
        compile: Whether networks are compiled; "auto" does on CUDA.
        jobs: Cohorts trained side by side, or "auto": as many as cores where one thread serves a cohort.
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


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables and figures from run folders.

    Attributes:
        runs: Sweep files, run folders, or folders of them.
        out: Folder of `report.html`, and of its tables as `report.md`, `report.csv` and `report.tex`.
        save: Folder that also gets `<recipe>.json`, `.md`, `.csv` and `.tex`, the tables to keep.
        figures: Folder that also gets every figure for a paper, as PDF, SVG and PNG.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path = Path("report")
    save: Path | None = None
    figures: Path | None = None


@dataclass(frozen=True, kw_only=True)
class List:
    """What there is: recipes, methods, models, data sets.

    Attributes:
        json: As one JSON object.
    """

    json: bool = False


def run(words: list[str]) -> int:
    """`potstill run RECIPE`: train it."""
    name, recipe, given, flags = parse("run", words)
    from potstill.display import for_terminal
    from potstill.execution import check, execute
    from potstill.record import make_folder
    from potstill.sweep import unfinished, write_sweep

    sweep = planned(recipe, given, flags)
    wanted, jobs = choices(flags), number("jobs", flags.jobs)
    command = shlex.join(["potstill", "run", *_without("--runs-dir", words)])
    around = conditions(command, flags)
    runs = [member.run for member in sweep.members()]
    check(runs, wanted, flags.runs_dir, jobs)
    make_folder(flags.runs_dir)
    path = flags.runs_dir / f"{recipes.label(name).replace(':', '-')}.sweep.json"
    write_sweep(path, recipes.label(name), _title(recipe, name), command, sweep, flags.runs_dir)
    display = for_terminal(flags.quiet)
    if not unfinished(runs, flags.runs_dir):
        display.line(f"All {len(runs)} runs are finished; delete their folders in {flags.runs_dir} to run again.")
    try:
        failures = execute(runs, wanted, around, display, jobs)
    finally:
        display.close()
    display.line(f"potstill report {path}")
    return _concluded(runs, flags.runs_dir, [failure.reason for failure in failures])


def _concluded(runs: list[Any], runs_dir: Path, reasons: list[str]) -> int:
    """Status 0 where every run has a student."""
    from potstill.sweep import diverged, unfinished

    lost = diverged(runs, runs_dir)
    missing = unfinished(runs, runs_dir)
    if not lost and not missing:
        return 0
    reasons = [*reasons, *(f"{run.name} (seed {run.seed}) diverged" for run in lost)]
    raise RunFailed(f"{len(lost) + len(missing)} of {len(runs)} runs failed: {'; '.join(reasons)}.")


def _title(recipe: recipes.Recipe, name: str) -> str:
    return (inspect.getdoc(recipe) or recipes.label(name)).splitlines()[0]


def show(words: list[str]) -> int:
    """`potstill show RECIPE`: print its plan."""
    name, recipe, given, flags = parse("show", words)
    from potstill.plan import describe

    print(describe(recipes.label(name), planned(recipe, given, flags), choices(flags), flags.runs_dir))
    return 0


def catalogue(words: list[str]) -> int:
    """`potstill list`: print what there is."""
    flags = tyro.cli(List, prog="potstill list", args=words)
    from potstill.catalogue import catalogue, table

    print(json.dumps(catalogue(), indent=2) if flags.json else table(catalogue()))
    return 0


def report(words: list[str]) -> int:
    """`potstill report RUNS…`: write it."""
    flags = tyro.cli(Report, prog="potstill report", args=words)
    from potstill.report import write

    if not flags.runs:
        raise UserError(
            "No runs were named; give a sweep file such as runs/mnist-hinton.sweep.json, or the folder runs."
        )
    print(write(flags.runs, flags.out, flags.save, flags.figures))
    return 0


def planned(recipe: recipes.Recipe, given: dict[str, Any], flags: Flags) -> Any:
    """The sweep that a recipe returns, with the common flags applied to its students."""
    from dataclasses import replace

    from potstill.sweep import as_sweep

    sweep = as_sweep(recipes.ask(recipe, given))
    if flags.controls:
        from potstill.controls import with_controls

        sweep = with_controls(sweep)
    if flags.seed is not None and flags.seeds is not None:
        raise UserError("--seed and --seeds were both given; --seed 3 means that one, --seeds 3 means three of them.")
    if flags.seed is not None:
        sweep = replace(sweep, seeds=(flags.seed,))
    if flags.seeds is not None:
        if flags.seeds < 1:
            raise UserError(f"--seeds is {flags.seeds}; expected a whole number ≥ 1.")
        sweep = replace(sweep, seeds=tuple(range(sweep.seeds[0], sweep.seeds[0] + flags.seeds)))
    if flags.epochs is not None:
        epochs = flags.epochs
        sweep = sweep.each(lambda run: run.lasting(epochs))
    if flags.views in ("shared", "per-seed"):
        sweep = sweep.each(lambda run: replace(run, data=replace(run.data, sharing=flags.views)))
    elif flags.views is not None:
        views = number("views", flags.views, 'expected "shared", "per-seed", or a whole number ≥ 1')
        sweep = sweep.each(lambda run: replace(run, data=replace(run.data, views=views)))
    if flags.companion is not None:
        sweep = sweep.each(lambda run: replace(run, data=replace(run.data, companion=flags.companion)))
    if flags.precision is not None:
        sweep = sweep.each(lambda run: replace(run, precision=flags.precision))
    if flags.deterministic:
        sweep = sweep.each(lambda run: replace(run, deterministic=True))
    return sweep


def conditions(command: str, flags: Flags) -> Any:
    """What the flags say of where and how runs are written."""
    from potstill.cohort import Conditions
    from potstill.live import outlets
    from potstill.store import size_of
    from potstill.sweep import provenance

    return Conditions(
        runs_dir=flags.runs_dir,
        teacher_at_least=_share(flags.teacher_at_least),
        store=size_of(flags.store),
        environment=provenance(command),
        outlets=outlets(flags.events == "on", flags.logger),
    )


def choices(flags: Flags) -> Any:
    """What the flags ask of the machine."""
    from potstill.machine import Choices

    threads, devices = number("threads", flags.threads), number("devices", flags.devices)
    return Choices(device=flags.device, threads=threads, compile=flags.compile, devices=devices)


def _without(flag: str, words: list[str]) -> list[str]:
    """The words but for one flag and its value."""
    if flag in words:
        place = words.index(flag)
        return words[:place] + words[place + 2 :]
    return [word for word in words if not word.startswith(f"{flag}=")]


def number(flag: str, text: str, expected: str = "expected a whole number ≥ 1, or auto") -> int | None:
    """A whole number ≥ 1, or None for "auto" where that is expected."""
    if text == "auto" and text in expected:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--{flag} is {text!r}; {expected}.")
    return int(text)


def _share(accuracy: float | None) -> float | None:
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise UserError(f"--teacher-at-least is {accuracy:g}; expected a fraction from 0 to 1, such as 0.95.")
    return accuracy


def parse(verb: str, words: list[str]) -> tuple[str, recipes.Recipe, dict[str, Any], Flags]:
    """The recipe that was named, its own arguments, and the common flags."""
    if not words or words[0].startswith("-"):
        help_wanted = bool(words) and words[0] in ("-h", "--help")
        if help_wanted:
            tyro.cli(Flags, prog=f"potstill {verb} RECIPE", args=["--help"])
        raise UserError(
            f"No recipe was named; write `potstill {verb} RECIPE`, with one of {', '.join(recipes.names())}."
        )
    name = words[0]
    recipe = recipes.find(name)
    command = command_of(recipe)
    parsed = tyro.cli(command, prog=f"potstill {verb} {name}", args=words[1:])
    own = {p: getattr(parsed, p) for p in inspect.signature(recipe).parameters}
    common = {f.name: getattr(parsed, f.name) for f in fields(Flags)}
    return name, recipe, own, Flags(**common)


def command_of(recipe: recipes.Recipe) -> type[Any]:
    """A dataclass whose fields are a recipe's parameters and the common flags, for the parser."""
    hints = get_type_hints(_without_return(recipe))
    own: list[Any] = []
    for parameter in inspect.signature(recipe).parameters.values():
        if parameter.name in {f.name for f in fields(Flags)}:
            raise UserError(
                f"The recipe {recipe.__name__} has a parameter {parameter.name!r}, which is a flag of every recipe; "
                "call it something else."
            )
        required = parameter.default is inspect.Parameter.empty
        kind = hints.get(parameter.name, str if required else type(parameter.default))
        own.append((parameter.name, kind) if required else (parameter.name, kind, field(default=parameter.default)))
    kinds = get_type_hints(Flags)
    shared = [(f.name, kinds[f.name], field(default=f.default)) for f in fields(Flags)]
    made = make_dataclass("Command", [*own, *shared], kw_only=True, frozen=True)
    documentation = inspect.getdoc(recipe) or ""
    text, _, arguments = documentation.partition("Args:")
    common = (inspect.getdoc(Flags) or "").partition("Attributes:")[2]
    made.__doc__ = f"{text.strip()}\n\nAttributes:{arguments.rstrip()}{common}"
    return made


def _without_return(recipe: recipes.Recipe) -> Any:
    """The recipe's annotations but for what it returns, which may name what only a type checker imports."""

    class Annotations:
        __annotations__ = {k: v for k, v in recipe.__annotations__.items() if k != "return"}

    Annotations.__module__ = recipe.__module__
    return Annotations
