"""A second look at finished runs: what a report shows of them and predictions alone do not tell.

It writes `analysis/` into run folders, each file as a whole (see `potstill.report.attached`); the same runs give the
same files. Nothing is trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.numpy

from potstill.analysis import layers
from potstill.analysis.pictures import picture
from potstill.analysis.subject import Bench, Subject, subject
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.record import Record, folder_of, held, make_folder, write_bytes, write_json
from potstill.report.answers import PREDICTIONS, read_logits
from potstill.report.attached import (
    CKA,
    FOLDER,
    PICTURES,
    TEACHER,
    Pictures,
    pictures_json,
    read_pictures,
    read_similarity,
    similarity_json,
)
from potstill.report.cases import pictured
from potstill.report.load import gather
from potstill.report.rows import rows
from potstill.report.study import Study, study


@dataclass(frozen=True)
class Done:
    """What came of it.

    Attributes:
        written: How many files.
        runs: How many runs were looked at.
        refused: What could not be done: a sentence, and the runs that it holds for.
    """

    written: int
    runs: int
    refused: dict[str, list[str]]


@dataclass
class _Work:
    """One call: where it is done, and what came of it so far."""

    bench: Bench
    say: Callable[[str], None]
    written: int = 0
    folders: dict[Path, None] = field(default_factory=dict[Path, None])
    refused: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    related: dict[tuple[Path, str, str], layers.Related] = field(
        default_factory=dict[tuple[Path, str, str], layers.Related]
    )

    def attempt(self, record: Record, what: str, part: Callable[[Subject, Path], bool]) -> None:
        """One file of one run, announced where it has a name; a refusal is kept, and the others go on."""
        folder = record.folder
        self.folders[folder] = None
        try:
            with held(folder):
                make_folder(folder / FOLDER)
                if part(subject(record), folder):
                    self.written += 1
                    if what:
                        self.say(f"{folder.name}: {what}")
        except UserError as error:
            names = self.refused.setdefault(str(error), [])
            names += [] if folder.name in names else [folder.name]

    def teachers_answers(self, of: Subject, folder: Path) -> bool:
        """The teacher's test logits, where it has no run folder with them."""
        if _readable(folder / FOLDER / TEACHER):
            return False
        source = self.bench.teacher(of)
        if source is None or not source.answerable:
            return False
        test = self.bench.resident(of).test
        tensors = {"logits": source.answers(test).cpu().numpy().astype(np.float16), "labels": test.labels.cpu().numpy()}
        write_bytes(folder / FOLDER / TEACHER, safetensors.numpy.save(tensors))
        return True

    def similarity(self, of: Subject, folder: Path) -> bool:
        """CKA of the student's layers with its teacher's, where that is one network."""
        try:
            if read_similarity(folder).key == layers.key(of.record.fingerprint):
                return False
        except ValueError:
            pass
        source = self.bench.teacher(of)
        if source is None or source.network is None or source.parts:
            return False
        resident = self.bench.resident(of)
        chosen = layers.sample(resident)
        if of.taught_by not in self.related:
            self.related[of.taught_by] = layers.of_teacher(source, resident, chosen)
        before, after = (
            layers.of_student(network, resident, chosen, self.bench.machine)
            for network in (of.initial(source), of.final(source))
        )
        found = layers.compared(of.record.fingerprint, self.related[of.taught_by], before, after, len(chosen))
        write_json(folder / FOLDER / CKA, similarity_json(found))
        return True

    def pictures(self, of: Subject, folder: Path, wanted: Sequence[int]) -> bool:
        """The test images that are shown, beside those that another comparison shows."""
        try:
            before = read_pictures(folder)
            known = dict(before.images) if before.key == of.content else {}
        except ValueError:
            before, known = None, {}
        if before is not None and before.key == of.content and known.keys() >= set(wanted):
            return False
        resident = self.bench.resident(of)
        images = known | {image: picture(resident, image) for image in wanted if image not in known}
        found = Pictures(of.content, tuple(resident.class_names), images)
        write_json(folder / FOLDER / PICTURES, pictures_json(found))
        return True


def analyze(paths: Sequence[Path], machine: Machine, say: Callable[[str], None] = print) -> Done:
    """Look again at the arms that a report looks at, and write what is not there yet.

    Args:
        paths: Sweep files, run folders, or folders that hold either.
        machine: What it runs on.
        say: Is told every file that was written.

    Raises:
        UserError: there is nothing to look at, or nothing could be done.
    """
    machine.activate()
    work = _Work(Bench(machine), say)
    for group in gather(paths).groups:
        table = rows(group)
        found, _ = study(table)
        for record in _students(found):
            if not _known(record):
                work.attempt(record, "the teacher's answers", work.teachers_answers)
            work.attempt(record, "similarity of layers", work.similarity)
        # Which images are shown may hang on what the teacher says.
        found, _ = study(table)
        wanted = () if found is None else pictured(found)
        before = work.written
        for record in _students(found):
            work.attempt(record, "", partial(work.pictures, wanted=wanted))
        if wanted and work.written > before:
            say(f"{group.recipe}: {len(wanted)} pictures")
    if work.refused and not any(_holds(folder) for folder in work.folders):
        raise UserError(next(iter(work.refused)))
    return Done(work.written, len(work.folders), work.refused)


def _students(found: Study | None) -> list[Record]:
    return [] if found is None else [entry.record for arm in found.arms for entry in arm.entries]


def _known(record: Record) -> bool:
    """Whether the teacher's answers are in its own run folder, or there is none to ask."""
    identity = (record.result or {}).get("teacher")
    if not identity:
        return True
    return _readable(folder_of(record.folder.parent, "teacher", str(identity)) / PREDICTIONS)


def _readable(path: Path) -> bool:
    try:
        read_logits(path)
    except ValueError:
        return False
    return True


def _holds(folder: Path) -> bool:
    return any((folder / FOLDER / name).exists() for name in (CKA, PICTURES, TEACHER))
