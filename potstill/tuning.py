"""The verb `tune`."""

import inspect
import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import tyro

from potstill import recipes
from potstill.commands import choices, conditions, parse, planned, title, without
from potstill.errors import RunFailed, UserError
from potstill.flags import Flags, command_of
from potstill.ranges import Range, read

if TYPE_CHECKING:
    from potstill.question import Question
    from potstill.seeking import Outcome
    from potstill.study import Study

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


def tune(words: list[str]) -> int:
    """`potstill tune RECIPE --over …`: do it."""
    name, recipe, given, flags = parse("tune", _filled(words), Tune)
    label = recipes.label(name)
    ranges = _ranges(name, recipe, flags.over)
    _check(flags)
    from potstill.display import for_terminal
    from potstill.execution import check
    from potstill.question import ask
    from potstill.record import make_folder
    from potstill.seeking import seek

    start = {one.name: given.get(one.name, getattr(flags, one.name, None)) for one in ranges}
    question = ask(label, ranges, start, _planning(recipe, given, flags), flags.arm)
    wanted = choices(flags)
    check(question.runs(start), wanted, flags.runs_dir)
    make_folder(flags.runs_dir)
    told = _Told(question, flags, title(recipe, name), words)
    around = conditions(told.command, flags)
    display = for_terminal(flags.quiet)
    study = told.open()
    try:
        seek(question, study, flags.trials, wanted, around, display, lambda outcome: told.after(outcome, display))
        told.end(display)
    finally:
        display.close()
        study.close()
    return 0


class _Told:
    """What a person is told of a study, on the terminal and in the file for the report."""

    def __init__(self, question: "Question", flags: Tune, title: str, words: Sequence[str]) -> None:
        self.command = shlex.join(["potstill", "tune", *without(["--runs-dir"], words)])
        self._question = question
        self._flags = flags
        self._title = title
        self._words = words
        self._path = flags.runs_dir / question.recipe.replace(":", "-")

    def open(self) -> "Study":
        """The study, begun where it was not."""
        from potstill.study import Study, pruner

        question, flags = self._question, self._flags
        epochs = question.runs(question.start)[0].epochs
        self._marks = flags.runs_dir / ".tune"
        self._study = Study(
            flags.study or f"sqlite:///{self._path.resolve()}.tune.db",
            question.name,
            ranges=question.ranges,
            start=question.start,
            seed=question.seeds[0],
            pruner=pruner(flags.pruner, epochs),
            marks=self._marks,
        )
        return self._study

    def after(self, outcome: "Outcome", display: Any) -> str:
        """One trial has ended; answers how good the best is."""
        best = self._study.best()
        length = f"{outcome.epochs} epoch{'' if outcome.epochs == 1 else 's'}"
        ends = {
            "finished": f"{_percent(outcome.accuracy)}",
            "pruned": f"given up after {length}",
            "diverged": f"diverged after {length}",
            "failed": f"failed ({outcome.reason})",
        }
        mark = "; the best so far" if best is not None and best.number == outcome.number else ""
        display.line(f"trial {outcome.number + 1}: {ends[outcome.status]} with {_said(outcome.values)}{mark}")
        self._write(whole=False)
        return f"best {_percent(best.value)}" if best is not None else ""

    def end(self, display: Any) -> None:
        """There are as many trials as were wanted."""
        self._write(whole=True)
        trials = self._study.trials()
        finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
        away = [trial for trial in trials if trial.state.name == "RUNNING"]
        elsewhere = f", {len(away)} under way in other processes" if away else ""
        given_up = f", {count} given up" if (count := len(trials) - len(finished) - len(away)) else ""
        question = self._question
        display.line(f"{question.recipe}, {question.arm}: {len(finished)} trials finished{given_up}{elsewhere}.")
        best = self._study.best()
        if best is None and not away:
            raise RunFailed(f"None of {len(trials)} trials finished; try other ranges.")
        if best is None:
            return
        values = question.values(best.params)
        own = f"; with the values it began with {_percent(finished[0].value)}" if finished[0].number == 0 else ""
        display.line(f"Best on the validation images: {_percent(best.value)} with {_said(values)}{own}.")
        if shares := self._study.importances():
            display.line(f"The differences come from {', '.join(f'{n} ({100 * s:.0f} %)' for n, s in shares.items())}.")
        display.line(f"potstill report {self._path}.tune.json")
        display.line(self._ready(values))

    def _write(self, *, whole: bool) -> None:
        from potstill.findings import TUNE, write

        best = self._study.best()
        ready = None if best is None else self._ready(self._question.values(best.params))
        told = {"title": self._title, "command": self.command, "pruner": self._flags.pruner, "ready": ready}
        path = self._path.with_name(self._path.name + TUNE)
        write(path, self._marks, self._question, self._study, told, whole=whole)

    def _ready(self, values: Mapping[str, Any]) -> str:
        """The command that runs the recipe with these values."""
        own = {f.name for f in fields(Tune)} - {f.name for f in fields(Flags)} | {"seed", "seeds", "jobs", "quiet"}
        left_out = [f"--{name.replace('_', '-')}" for name in (*own, *values)]
        kept = without(left_out, [word for word in self._words if word not in ("--quiet", *_switches(values))])
        return shlex.join(["potstill", "run", *kept, *_words(values)])


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


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.2f} %"
