"""Carrying a tuning out: trial by trial, each an ordinary run for every seed, given up where others did better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill import record
from potstill.cohort import Conditions
from potstill.display import Bars, Display, Silent
from potstill.errors import RunFailed, UserError
from potstill.execution import Failure, execute
from potstill.machine import Choices
from potstill.run import Run, fingerprint
from potstill.sweep import diverged, in_order, unfinished
from potstill.tune.question import Question
from potstill.tune.study import Study, Trial

IN_A_ROW = 3
"""Trials that may fail one after another before no other is begun."""


@dataclass(frozen=True)
class Ending:
    """What came of one trial.

    Attributes:
        number: The trial's, from 0.
        values: What it took.
        status: "finished", "pruned", "diverged" or "failed".
        epochs: How many epochs its runs have, all seeds together.
        accuracy: On the validation images after the last epoch, mean over seeds; None unless finished.
        reason: Why it failed, if it did.
    """

    number: int
    values: Mapping[str, Any]
    status: str
    epochs: int
    accuracy: float | None = None
    reason: str = ""


def seek(
    question: Question,
    study: Study,
    wanted: int,
    choices: Choices,
    conditions: Conditions,
    display: Display,
    after: Callable[[Ending], str],
) -> None:
    """Work on a study until it has so many trials, whoever made them.

    Args:
        question: What is tuned.
        study: Its trials.
        wanted: How many there shall be; those that failed do not count.
        choices: What the user asks of the machine.
        conditions: Where runs are written, and the like.
        display: What shows how far they are.
        after: Told of every trial that this process has ended; answers how good the best is, in words.

    Raises:
        UserError: something that was asked for cannot be.
        RunFailed: a teacher could not be trained, or one trial after another failed.
    """
    failed: list[str] = []
    best = ""
    shown = _Shown(display)
    while (trial := study.claim(wanted)) is not None:
        shown.name = f"trial {trial.number + 1} of {wanted}{best and f', {best}'}"
        outcome = _Attempt(question, trial, choices, conditions, shown).outcome()
        best = after(outcome)
        failed = [*failed, outcome.reason] if outcome.status == "failed" else []
        if len(failed) == IN_A_ROW:
            raise RunFailed(f"{IN_A_ROW} trials failed one after another, the last for this: {failed[-1]}.")


class _Attempt:
    """One trial, from its values to its end."""

    def __init__(
        self, question: Question, trial: Trial, choices: Choices, conditions: Conditions, shown: "_Shown"
    ) -> None:
        self._trial = trial
        self._values = question.values(trial.drawn)
        self._runs = question.runs(self._values)
        self._choices = replace(choices, devices=1)
        self._conditions = conditions
        self._shown = shown
        self._before: list[float] = []  # Accuracies of the seeds that are done.

    def outcome(self) -> Ending:
        """Train what is not trained yet, and tell the study how it went.

        Raises:
            UserError: something about the runs does not fit.
            RunFailed: they have no teacher.
        """
        try:
            return self._trained()
        except (UserError, RunFailed):
            self._trial.fail()  # What was killed goes on later; what was refused would be refused again.
            raise

    def _trained(self) -> Ending:
        self._trial.note("runs", [self._folder(run).name for run in self._runs])
        self._train_teachers()
        asking = replace(self._conditions, go_on=self._goes_on)
        for run in self._runs:
            self._tell_what_is_known(run)
            if failures := self._train([run], asking, self._shown):
                self._trial.fail()
                return self._ended("failed", reason=failures[0].reason)
            if unfinished([run], self._conditions.runs_dir):
                self._trial.prune()
                return self._ended("pruned")
            if diverged([run], self._conditions.runs_dir):
                self._trial.note("diverged", True)
                self._trial.prune()
                return self._ended("diverged")
            self._tell_what_is_known(run)
            self._before.append(self._accuracies(run)[-1])
        accuracy = sum(self._before) / len(self._before)
        self._trial.finish(accuracy)
        return self._ended("finished", accuracy)

    def _ended(self, status: str, accuracy: float | None = None, reason: str = "") -> Ending:
        epochs = sum(len(self._accuracies(run)) for run in self._runs)
        return Ending(self._trial.number, self._values, status, epochs, accuracy, reason)

    def _train_teachers(self) -> None:
        """Those that the runs name, side by side where they can be; none of them is given up."""
        *before, _ = in_order(self._runs)
        teachers = unfinished([run for level in before for run in level], self._conditions.runs_dir)
        if teachers:
            failures = self._train(teachers, self._conditions, self._shown.inner)
            lost = diverged(teachers, self._conditions.runs_dir)
            reasons = [*(failure.reason for failure in failures), *(f"{run.name} diverged" for run in lost)]
            if reasons:
                raise RunFailed(f"The trials have no teacher: {'; '.join(reasons)}.")

    def _train(self, runs: Sequence[Run], conditions: Conditions, display: Display) -> list[Failure]:
        """Train runs; where another process is at one of them, wait for it and go on from there."""
        while True:
            try:
                return execute(runs, self._choices, conditions, display)
            except record.Busy as busy:
                self._shown.inner.line(f"{busy.folder.name} is being trained by another process; waiting for it.")
                record.wait(busy.folder)

    def _goes_on(self, run: Run, epoch: int, validation: Mapping[str, Any] | None) -> bool:
        assert validation is not None
        self._tell(run, epoch, validation["accuracy"])
        return self._trial.promising()

    def _tell(self, run: Run, epoch: int, accuracy: float) -> None:
        """Seeds follow one another: a step is an epoch of one of them, its value the mean with those before."""
        place = len(self._before)
        self._trial.tell(place * run.epochs + epoch, (sum(self._before) + accuracy) / (place + 1))

    def _tell_what_is_known(self, run: Run) -> None:
        """The epochs in the record, which may be older than this trial."""
        for epoch, accuracy in enumerate(self._accuracies(run), start=1):
            self._tell(run, epoch, accuracy)

    def _accuracies(self, run: Run) -> list[float]:
        """On the validation images, epoch by epoch; nothing that a record says of the test split is read."""
        return [line["validation"]["accuracy"] for line in record.Record(self._folder(run)).metrics]

    def _folder(self, run: Run) -> Path:
        return record.folder_of(self._conditions.runs_dir, run.name, fingerprint(run))


class _Shown(Display):
    """Trials as a bar each on a terminal, and what is the same in all of them once."""

    def __init__(self, inner: Display) -> None:
        self.inner = inner
        self.name = ""
        self._bars = inner if isinstance(inner, Bars) else Silent()
        self._told: set[str] = set()

    def line(self, text: str) -> None:
        """Shown the first time."""
        if text not in self._told:
            self._told.add(text)
            self.inner.line(text)

    def begin(self, what: str, steps: int) -> None:
        """A bar with the trial's name."""
        self._bars.begin(self.name, steps)

    def at(self, what: str, step: int) -> None:
        """The bar moves."""
        self._bars.at(self.name, step)

    def end(self, what: str) -> None:
        """The bar is taken away."""
        self._bars.end(self.name)
