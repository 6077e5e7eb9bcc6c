"""The arms of a comparison that are looked at image by image, with what each of their runs answered."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.record import folder_of
from potstill.report.answers import PREDICTIONS, Answers, Labels, Logits, answers, read_logits
from potstill.report.attached import FOLDER, TEACHER
from potstill.report.entry import Entry
from potstill.report.find import Notice
from potstill.report.rows import Row, chosen, students

ARMS = 6
"""How many students of a comparison are looked at: the first, and the best of the others."""


@dataclass(frozen=True, eq=False)
class Arm:
    """An arm and the answers of its runs, in order of seeds; runs without readable predictions are left out."""

    name: str
    entries: tuple[Entry, ...]
    answers: tuple[Answers, ...]

    @property
    def n(self) -> int:
        """How many runs answered."""
        return len(self.answers)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Their seeds."""
        return tuple(entry.outcome.seed for entry in self.entries)

    @cached_property
    def confusion(self) -> NDArray[np.float64]:
        """Mean over seeds of what share of each class (row) is called what (column), (K, K)."""
        return np.mean([each.confusion for each in self.answers], axis=0)

    @cached_property
    def right(self) -> NDArray[np.float64]:
        """Share of the seeds that name the label of each image, (N,)."""
        return np.mean([each.right for each in self.answers], axis=0)

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Mean probability of each image's label, (N,)."""
        return np.mean([each.share for each in self.answers], axis=0)

    def said(self, image: int) -> tuple[int, int]:
        """The class that most seeds name for an image (of two, the lower), and how many do."""
        votes = np.bincount([each.guess[image] for each in self.answers])
        return int(votes.argmax()), int(votes.max())


@dataclass(frozen=True, eq=False)
class Study:
    """Arms over the same test images.

    Attributes:
        arms: The students, the reference first.
        teacher: The teacher behind most of them; None where there is none, or it left no predictions.
        logits: Its logits, (N, K).
        labels: (N,).
        classes: K.
        notices: What was left out, and why.
    """

    arms: tuple[Arm, ...]
    teacher: Arm | None
    logits: Logits | None
    labels: Labels
    classes: int
    notices: tuple[Notice, ...] = ()

    @property
    def reference(self) -> Arm:
        """What the other arms are compared with."""
        return self.arms[0]

    @property
    def others(self) -> tuple[Arm, ...]:
        """All arms but the reference."""
        return self.arms[1:]


@dataclass
class _Reader:
    """Reads predictions as long as they are about the test images of the first."""

    notices: list[Notice] = field(default_factory=list[Notice])
    labels: Labels | None = None
    classes: int = 0

    def arm(self, row: Row) -> Arm | None:
        kept = [(entry, found) for entry in row.entries if (found := self._entry(entry)) is not None]
        return Arm(row.arm, tuple(e for e, _ in kept), tuple(a for _, a in kept)) if kept else None

    def logits(self, path: Path) -> Logits:
        """Those in a file.

        Raises:
            ValueError: they are not there, or are about other images.
        """
        logits, labels = read_logits(path)
        if self.labels is None:
            self.labels, self.classes = labels, logits.shape[1]
        elif logits.shape[1] != self.classes or not np.array_equal(labels, self.labels):
            raise ValueError("is about other test images than those of the first arm")
        return logits

    def _entry(self, entry: Entry) -> Answers | None:
        try:
            logits = self.logits(entry.record.folder / PREDICTIONS)
        except ValueError as error:
            name = f"{entry.arm}, seed {entry.outcome.seed}"
            self.notices.append(Notice(name, f"{PREDICTIONS} {error}; the run is left out of this analysis."))
            return None
        assert self.labels is not None
        return answers(logits, self.labels)


def study(table: Sequence[Row]) -> tuple[Study | None, tuple[Notice, ...]]:
    """The arms of a comparison with their answers, and what was left out; None where no reference is left."""
    reader = _Reader()
    rows = chosen(students(table), ARMS)
    found = [reader.arm(row) for row in rows]
    arms = tuple(arm for arm in found if arm is not None)
    if not arms or found[0] is None or reader.labels is None:
        return None, tuple(reader.notices)
    teacher, logits = _teacher(arms, table, reader)
    notices = tuple(reader.notices)
    return Study(arms, teacher, logits, reader.labels, reader.classes, notices), notices


def _teacher(arms: Sequence[Arm], table: Sequence[Row], reader: _Reader) -> tuple[Arm | None, Logits | None]:
    """The teacher that most runs name, by its own predictions or by what was written beside a student's."""
    taught = [entry for arm in arms for entry in arm.entries if entry.outcome.teacher is not None]
    names = [entry.outcome.teacher for entry in taught]
    # Of equally many the first: `max` keeps it.
    identity = max(dict.fromkeys(names), key=names.count, default=None)
    if identity is None:
        return None, None
    own = [entry for row in table for entry in row.entries if entry.record.fingerprint == identity]
    beside = [entry.record.folder for entry in taught if entry.outcome.teacher == identity]
    for path in (
        *(entry.record.folder / PREDICTIONS for entry in own),
        *(_home(folder, identity) / PREDICTIONS for folder in beside[:1]),
        *(folder / FOLDER / TEACHER for folder in beside),
    ):
        try:
            logits = reader.logits(path)
        except ValueError:
            continue
        assert reader.labels is not None
        name = own[0].arm if own else "teacher"
        return Arm(name, tuple(own[:1]), (answers(logits, reader.labels),)), logits
    return None, None


def _home(folder: Path, identity: str) -> Path:
    """Where the teacher's own run lies, if it is beside its student's."""
    return folder_of(folder.parent, "teacher", identity)
