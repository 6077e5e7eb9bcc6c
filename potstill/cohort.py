"""The loop: students that share seed, data, teacher and batch size take the same batches, one teacher pass for all."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill import ranks, record
from potstill.data import Draw, Resident, Split, content, load
from potstill.display import Display
from potstill.errors import TeacherRefused, UserError
from potstill.live.outlets import Kind
from potstill.machine import Machine
from potstill.run import Run, fingerprint
from potstill.store.kept import chunks
from potstill.store.storage import LIMIT, Storage
from potstill.teachers.gate import Judgement, gate
from potstill.teachers.source import Source
from potstill.teachers.teacher import Surroundings, opened
from potstill.training import Judged, Training
from potstill.types import Batch, Trace


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What surrounds a cohort and does not change what it learns.

    Attributes:
        runs_dir: Where run folders are.
        teacher_at_least: Accuracy below which a teacher is refused; None asks only for better than chance.
        checkpoint_seconds: Least time between two checkpoints.
        store: Bytes that the teachers' stores may take together; 0 for no store.
        environment: What `env.json` shall say beside the machine: commit, command.
        outlets: Where the numbers of a run go beside its record.
        go_on: Asked after each epoch of a run but its last: the run, its finished epochs, and what the epoch measured
            on the validation split. A run that shall not go on is left as it stands, unfinished, with a checkpoint. It
            is asked in this process, which then trains every cohort itself. None lets all go on.
    """

    runs_dir: Path = Path("runs")
    teacher_at_least: float | None = None
    checkpoint_seconds: float = 30.0
    store: int = LIMIT
    environment: Mapping[str, Any]
    outlets: Sequence[Kind] = ("events",)
    go_on: Callable[[Run, int, Mapping[str, Any] | None], bool] | None = None


def train(runs: Sequence[Run], machine: Machine, conditions: Conditions, display: Display) -> list[Path]:
    """Train a cohort to its end, continuing what was begun; returns the run folders in order.

    Args:
        runs: Runs that share seed, data, teacher, batch size and precision; finished ones are left alone.
        machine: What they run on.
        conditions: Where they are written, and the like.
        display: What shows how far they are.

    Raises:
        UserError: something about them does not fit; nothing was trained or written by then.
    """
    folders = [record.folder_of(conditions.runs_dir, run.name, fingerprint(run)) for run in runs]
    for folder in folders:
        if (folder / "run.json").exists():
            record.check_format(record.read(folder).run, folder / "run.json")
    left = ranks.agreed([not is_finished(folder) for folder in folders])
    due = [(run, folder) for run, folder, begin in zip(runs, folders, left, strict=True) if begin]
    if due:
        machine.activate()
        cohort = _Cohort(due, machine, conditions, display)  # Whatever does not fit is told before a folder is made.
        with contextlib.ExitStack() as stack:
            for _, folder in due if ranks.leads() else ():
                record.make_folder(folder)
                stack.enter_context(record.held(folder))
            still = all(ranks.agreed([not is_finished(folder) for _, folder in due]))
            if still:
                cohort.train(conditions)
        if not still:  # Another process brought some of them to their end before they were held.
            return train(runs, machine, conditions, display)
    return folders


def set_up(
    run: Run, epochs: int, machine: Machine, conditions: Conditions, display: Display
) -> tuple[Resident, Draw, Source | None]:
    """The data of a run, how it is drawn for so many epochs, and the outside teacher at work on it."""
    resident = ranks.after_leader(lambda: load(run.data, machine.device))
    draw = Draw(resident, run.data, run.seed, run.batch_size)
    storage = None
    if conditions.store and ranks.count() == 1:  # Of several, one could find rows that another still misses.
        turns = draw.turns(epochs - 1)[-1] + 1
        storage = Storage(conditions.runs_dir / record.STORES, conditions.store, content(run.data), turns, display.line)
    return resident, draw, opened(run.teacher, Surroundings(conditions.runs_dir, resident, machine, draw.walk, storage))


def is_finished(folder: Path) -> bool:
    """Whether a run folder holds a whole result."""
    return record.read_json(folder / "result.json") is not None


class _Cohort:
    """Trainings in lockstep."""

    def __init__(
        self, due: Sequence[tuple[Run, Path]], machine: Machine, conditions: Conditions, display: Display
    ) -> None:
        first = due[0][0]
        self._first = first
        self._display = display
        self._pause = conditions.checkpoint_seconds
        self._go_on = conditions.go_on
        longest = max(run.epochs for run, _ in due)
        self._resident, self._draw, self._source = set_up(first, longest, machine, conditions, display)
        steps = self._draw.steps
        self._trainings = [Training(run, folder, self._resident, self._source, machine, steps) for run, folder in due]
        if steps == 0:
            raise UserError(f"The training split of {first.data.name!r} has fewer than 2 images; give it more.")
        self._judgement: Judgement | None = None
        if self._source is not None:
            self._judgement = self._judge(self._source, conditions.teacher_at_least)
            for line in self._judgement.lines:
                display.line(line)

    def train(self, conditions: Conditions) -> None:
        """Every epoch of the member that takes longest."""
        for training in self._trainings:
            training.open(conditions.environment, self._judgement, conditions.outlets, self._display.line)
        steps = self._draw.steps
        longest = max(training.run.epochs for training in self._trainings)
        self._display.begin(self.name, longest * steps)
        self._saved = self._lap = time.monotonic()
        while active := [training for training in self._trainings if not training.done]:
            # After a kill members may stand at different steps: the cohort goes on from the least.
            step = min(training.at.step for training in active)
            epoch = step // steps
            turns = self._draw.turns(epoch)
            for batch in self._draw.batches(epoch, step % steps):
                self._save_when_due(active)
                teacher = self._ask(active, batch, self._resident.train, turns)
                for training in active:
                    training.step(batch, teacher, step)
                step += 1
                self._display.at(self.name, step)
            self._end_epoch([training for training in active if training.at.epoch == epoch])
        self._display.end(self.name)

    @property
    def name(self) -> str:
        """What the display calls this cohort."""
        names = [training.run.name for training in self._trainings]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return f"{shown} (seed {self._first.seed})"

    def _judge(self, source: Source, at_least: float | None) -> Judgement:
        """What `gate` says of the teacher."""
        assert self._first.teacher is not None
        try:
            return gate(source, self._resident, at_least)
        except UserError as mistake:
            raise (TeacherRefused(str(mistake).rstrip(".")) if self._first.teacher.runs else mistake) from None

    def _ask(self, active: Sequence[Training], batch: Batch, split: Split, turns: tuple[int, ...]) -> Trace | None:
        """One teacher pass for all who need it, with the union of their taps."""
        if self._source is None or not any(training.needs_teacher for training in active):
            return None
        taps = dict.fromkeys(tap for training in active for tap in training.teacher_taps)
        logits = any(training.needs_logits for training in active)
        return self._source(batch, split, tuple(taps), turns, logits=logits)

    def _end_epoch(self, active: Sequence[Training]) -> None:
        validation = self._resident.validation
        judged = [None if validation is None else Judged() for _ in active]
        if validation is not None:
            for batch in map(self._draw.accompanied, chunks(self._resident, validation)):
                teacher = self._ask(active, batch, validation, (0,))
                for training, sums in zip(active, judged, strict=True):
                    assert sums is not None
                    training.judge(sums, batch, teacher)
        self._share_time(active)
        for training, sums in zip(active, judged, strict=True):
            training.end_epoch(sums)
            if self._is_given_up(training):
                training.leave()

    def _is_given_up(self, training: Training) -> bool:
        """Whether a run that has not ended shall not go on."""
        asked = None if training.done else self._go_on
        return asked is not None and not asked(training.run, training.at.epoch, training.validation)

    def _save_when_due(self, active: Sequence[Training]) -> None:
        if ranks.leads() and time.monotonic() - self._saved >= self._pause:
            self._share_time(active)
            for training in active:
                training.save()
            self._saved = time.monotonic()

    def _share_time(self, active: Sequence[Training]) -> None:
        """Give every member its part of the wall time since the last lap."""
        now = time.monotonic()
        for training in active:
            training.at.seconds += (now - self._lap) / len(active)
        self._lap = now
