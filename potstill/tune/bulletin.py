"""What a person is told of a tuning, on the terminal and in the file for the report."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from potstill.display import Display
from potstill.errors import RunFailed
from potstill.tune import findings
from potstill.tune.question import Question
from potstill.tune.seeking import Ending
from potstill.tune.study import Study


class Bulletin:
    """A line for each trial, and at the end what was found."""

    def __init__(
        self,
        path: Path,
        question: Question,
        study: Study,
        display: Display,
        told: Mapping[str, Any],
        ready: Callable[[Mapping[str, Any]], Sequence[str]],
        folder: Sequence[str] = (),
    ):
        """Of one study.

        Args:
            path: The file for the report.
            question: What is asked.
            study: Its trials.
            display: Where lines are shown.
            told: What the file says of the study beside its trials.
            ready: The command that runs the recipe with some values, in words.
            folder: The words that say where its runs are; the file, which travels, has them not.
        """
        self._path = path
        self._question = question
        self._study = study
        self._display = display
        self._told = told
        self._ready = ready
        self._folder = folder

    def after(self, outcome: Ending) -> str:
        """One trial has ended; answers how good the best is."""
        best = self._study.best()
        length = f"{outcome.epochs} epoch{'' if outcome.epochs == 1 else 's'}"
        ends = {
            "finished": _percent(outcome.accuracy),
            "pruned": f"given up after {length}",
            "diverged": f"diverged after {length}",
            "failed": f"failed ({outcome.reason})",
        }
        mark = "; the best so far" if best is not None and best.number == outcome.number else ""
        self._display.line(f"trial {outcome.number + 1}: {ends[outcome.status]} with {_said(outcome.values)}{mark}")
        self._write({})
        return "" if best is None else f"best {_percent(best.value)}"

    def end(self) -> None:
        """There are as many trials as were wanted.

        Raises:
            RunFailed: none of them finished.
        """
        shares = self._study.importances()
        self._write(shares)
        trials = self._study.trials()
        finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        away = [trial for trial in trials if trial.state == TrialState.RUNNING]
        lost = len(trials) - len(finished) - len(away)
        others = f", {lost} given up" if lost else ""
        others += f", {len(away)} under way in other processes" if away else ""
        told = f"{len(finished)} trial{'' if len(finished) == 1 else 's'}"
        self._display.line(f"{self._question.recipe}, {self._question.arm}: {told} finished{others}.")
        best = self._study.best()
        if best is None and away:
            return
        if best is None:
            raise RunFailed(f"None of {len(trials)} trials finished; try other ranges.")
        values = self._question.values(best.params)
        own = [t for t in finished if self._question.values(t.params) == self._question.start]
        beside = (
            f"; with {_said(self._question.start)} it is {_percent(own[0].value)}" if own and own[0] != best else ""
        )
        self._display.line(f"Best on the validation images: {_percent(best.value)} with {_said(values)}{beside}.")
        if shares:
            told = ", ".join(f"{name} ({100 * share:.0f} %)" for name, share in shares.items())
            self._display.line(f"The differences between trials come from {told}.")
        self._display.line(f"potstill report {self._path}")
        self._display.line(shlex.join([*self._ready(values), *self._folder]))

    def _write(self, shares: Mapping[str, float]) -> None:
        best = self._study.best()
        ready = None if best is None else shlex.join(self._ready(self._question.values(best.params)))
        findings.write(self._path, self._question, self._study, {**self._told, "ready": ready}, shares)


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.2f} %"
