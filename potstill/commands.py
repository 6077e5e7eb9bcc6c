"""The verbs of the command line."""

import inspect
import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from potstill import recipes
from potstill.errors import RunFailed, UserError
from potstill.flags import Flags, command_of

Common = TypeVar("Common", bound=Flags)


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
    command = shlex.join(["potstill", "run", *without(["--runs-dir"], words)])
    around = conditions(command, flags)
    runs = [member.run for member in sweep.members()]
    check(runs, wanted, flags.runs_dir, jobs)
    make_folder(flags.runs_dir)
    path = flags.runs_dir / f"{recipes.label(name).replace(':', '-')}.sweep.json"
    write_sweep(path, recipes.label(name), title(recipe, name), command, sweep, flags.runs_dir)
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


def title(recipe: recipes.Recipe, name: str) -> str:
    """The first line of what a recipe says of itself."""
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


def without(flags: Collection[str], words: Sequence[str]) -> list[str]:
    """The words but for some flags and their values, wherever they stand."""
    kept: list[str] = []
    left_out = False
    for word in words:
        flag, equals, _ = word.partition("=")
        named = flag.startswith("--") and flag.replace("_", "-") in flags
        if not named and not left_out:
            kept.append(word)
        left_out = named and not equals
    return kept


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


def parse(
    verb: str, words: list[str], kind: type[Common] = Flags
) -> tuple[str, recipes.Recipe, dict[str, Any], Common]:
    """The recipe that was named, its own arguments, and the common flags or those of one verb.

    Raises:
        UserError: no recipe was named, or there is none of that name.
    """
    if not words or words[0].startswith("-"):
        help_wanted = bool(words) and words[0] in ("-h", "--help")
        if help_wanted:
            tyro.cli(kind, prog=f"potstill {verb} RECIPE", args=["--help"])
        raise UserError(
            f"No recipe was named; write `potstill {verb} RECIPE`, with one of {', '.join(recipes.names())}."
        )
    name = words[0]
    recipe = recipes.find(name)
    command = command_of(recipe, kind)
    parsed = tyro.cli(command, prog=f"potstill {verb} {name}", args=words[1:])
    own = {p: getattr(parsed, p) for p in inspect.signature(recipe).parameters}
    common = {f.name: getattr(parsed, f.name) for f in fields(kind)}
    return name, recipe, own, kind(**common)
