"""Teachers at work, and runs that they teach."""

from pathlib import Path
from typing import Any

import tiny
import torch
from torch import nn

from potstill import record
from potstill.data import Resident
from potstill.machine import Machine
from potstill.methods import KD, Labels
from potstill.run import Run
from potstill.stage import Stage
from potstill.teachers import Teacher
from potstill.teachers.teacher import Surroundings
from potstill.types import Batch


def soft_run(network: nn.Module | None = None, *, classes: int = tiny.CLASSES, **fields: Any) -> Run:
    stages = [Stage(terms=(Labels(), KD()), epochs=2, optimizer=tiny.SGD)]
    return tiny.run("soft", stages=stages, teacher=tiny.teacher(network, classes), **fields)


def opened(teacher: Teacher, resident: Resident) -> Any:
    return teacher.open(Surroundings(None, resident, Machine(), None))


def first(resident: Resident, count: int = 6) -> Batch:
    return resident.batch(resident.train, torch.arange(count))


def taught(teacher: Teacher, *terms: Any, epochs: int = 2, **fields: Any) -> Run:
    stages = [Stage(terms=terms or (Labels(), KD()), epochs=epochs, optimizer=tiny.SGD)]
    return tiny.run("taught", stages=stages, teacher=teacher, **fields)


def result(runs_dir: Path, run: Run) -> tuple[dict[str, Any], Path]:
    (folder,) = tiny.train_in(runs_dir, [run])
    found = record.Record(folder).result
    assert found is not None
    return found, folder
