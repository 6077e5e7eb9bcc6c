"""The verb `tune`."""

import inspect
import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from potstill import recipes
from potstill.errors import UserError
from potstill.tune.ranges import Range, read
from potstill.verbs.command import choices, conditions, parse, planned, title, without
from potstill.verbs.flags import Flags, command_of

LEARNED = ("epochs", "views", "companion")
"""The flags of every recipe that can be tuned: they change what a run learns."""


@dataclass(frozen=True, kw_only=True)
class Tune(Flags):
    """What `tune` understands beside them.

    Attributes:
        over: What is tuned: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C for a flag of the recipe; may be repeated.
        trials: How many trials there shall be in the end.
        arm: The arm that is tuned; may be left out where only one changes with all that is tuned.
        pruner: Which trials are given up early: those below the "median" of the others at the same epoch, or the worse
            half at each doubling of epochs ("halving"), or "none".
        study: A database for the trials, as in postgresql://host/name, if several machines shall work on them; a file
            beside the runs if it is left out.
    """

    over: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    trials: int = 40
    arm: str | None = None
    pruner: Literal["median", "halving", "none"] = "median"
    study: str | None = None


@dataclass(frozen=True)
class Asked:
    """A command, understood: what is tuned, and the flags."""

    title: str
    flags: Tune
    question: Any


def asked(words: list[str]) -> Asked:
    """What a command asks for; nothing is made yet.

    Raises:
        UserError: something that cannot be.
    """
    name, recipe, given, flags = parse("tune", _filled(words), Tune)
    ranges = _ranges(name, recipe, flags.over)
    _check(flags)
    from potstill.tune.question import ask

    start = {one.name: given.get(one.name, getattr(flags, one.name, None)) for one in ranges}
    question = ask(recipes.label(name), ranges, start, _planning(recipe, given, flags), flags.arm)
    return Asked(title(recipe, name), flags, question)


def tune(words: list[str]) -> int:
    """`potstill tune RECIPE --over …`: do it."""
    understood = asked(words)
    flags, question = understood.flags, understood.question
    from potstill.display import for_terminal
    from potstill.execution import check
    from potstill.record import make_folder
    from potstill.report.tuned import TUNE
    from potstill.tune.bulletin import Bulletin
    from potstill.tune.seeking import seek

    wanted = choices(flags)
    command = shlex.join(["potstill", "tune", *without(["--runs-dir"], words)])
    around = conditions(command, flags)
    check(question.runs(question.start), wanted, flags.runs_dir)
    make_folder(flags.runs_dir)
    path = flags.runs_dir / f"{recipes.file_name(question.recipe)}{TUNE}"
    study = _study(path, question, flags)
    display = for_terminal(flags.quiet)
    told = {"title": understood.title, "command": command, "pruner": flags.pruner}
    folder = [] if flags.runs_dir == Flags.runs_dir else ["--runs-dir", str(flags.runs_dir)]
    bulletin = Bulletin(path, question, study, display, told, lambda values: _ready(words, values), folder)
    try:
        seek(question, study, flags.trials, wanted, around, display, bulletin.after)
        bulletin.end()
    finally:
        display.close()
        study.close()
    return 0


def _study(path: Path, question: Any, flags: Tune) -> Any:
    """The trials so far, in a file beside the one for the report or where the flags say."""
    from potstill.tune.study import Study, pruner

    first = question.runs(question.start)[0]
    return Study(
        flags.study or f"sqlite:///{path.resolve().with_suffix('.db')}",
        question.name,
        ranges=question.ranges,
        start=question.start,
        seed=first.seed,
        pruner=pruner(flags.pruner, first.epochs),
        marks=flags.runs_dir / ".tune",
    )


def _ready(words: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """The command that runs the recipe with these values, on all its seeds, but for where."""
    own = {f.name for f in fields(Tune)} - {f.name for f in fields(Flags)} | {"seed", "seeds", "jobs", "runs_dir"}
    left_out = [f"--{name.replace('_', '-')}" for name in (*own, *values)]
    kept = without(left_out, [word for word in words if word not in ("--quiet", *_switches(values))])
    return ["potstill", "run", *kept, *_words(values)]


def _planning(recipe: recipes.Recipe, given: dict[str, Any], flags: Tune) -> Any:
    """The recipe's sweep at some values, with one seed where no number was asked for."""

    def plan(values: Mapping[str, Any]) -> Any:
        own = {name: values.get(name, value) for name, value in given.items()}
        common = replace(flags, **{name: value for name, value in values.items() if name not in given})
        sweep = planned(recipe, own, common)
        one = flags.seed is None and flags.seeds is None
        return replace(sweep, seeds=sweep.seeds[:1]) if one else sweep

    return plan


def _ranges(name: str, recipe: recipes.Recipe, texts: Sequence[str]) -> tuple[Range, ...]:
    kinds = {f.name: f.type for f in fields(command_of(recipe, Tune))}
    own = list(inspect.signature(recipe).parameters)
    tunable = {flag: kinds[flag] for flag in (*own, *LEARNED)}
    return read(texts, tunable, [flag for flag in kinds if flag not in tunable], recipes.label(name))


def _filled(words: list[str]) -> list[str]:
    """The words, with a value for what the recipe must be given and is tuned anyway."""
    if not words or words[0].startswith("-"):
        return words
    recipe = recipes.find(words[0])
    texts = [after for word, after in itertools.pairwise(words) if word == "--over"]
    texts += [word.removeprefix("--over=") for word in words if word.startswith("--over=")]
    ranges = _ranges(words[0], recipe, texts) if texts else ()
    needed = {p.name for p in inspect.signature(recipe).parameters.values() if p.default is p.empty}
    missing = {one.name: one.ends[0] for one in ranges if one.name in needed}
    flags = {word.partition("=")[0].replace("_", "-") for word in words}
    return [*words, *_words({name: v for name, v in missing.items() if f"--{name.replace('_', '-')}" not in flags})]


def _check(flags: Tune) -> None:
    if flags.trials < 1:
        raise UserError(f"--trials is {flags.trials}; expected a whole number ≥ 1.")
    if flags.jobs not in ("auto", "1") or flags.devices not in ("auto", "1"):
        raise UserError(
            "--jobs or --devices was given, but tune trains one run at a time, on one device; start the same command "
            "again beside this one, and both work on the same trials."
        )


def _words(values: Mapping[str, Any]) -> list[str]:
    """Values as flags."""
    words: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif str(value).startswith("-"):
            words.append(f"--{flag}={value}")
        else:
            words += [f"--{flag}", str(value)]
    return words


def _switches(values: Mapping[str, Any]) -> list[str]:
    """The words that turn on or off what is tuned."""
    flags = [name.replace("_", "-") for name, value in values.items() if isinstance(value, bool)]
    return [f"--{no}{flag}" for flag in flags for no in ("", "no-")]
