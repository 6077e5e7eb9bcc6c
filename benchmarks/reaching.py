"""Seconds until a student of the embedded digits is right on nine of ten validation images, from the first batch on.

The runs are those of `digits:quickstart`, whole ones with their folders, their teacher's check and an evaluation after
each epoch, and end when they have arrived. Every repetition is another seed. The peer-style loop trains the same
student on the same images with the same teacher, optimizer and schedule.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from benchmarks.peers import Images, beside, loader, step
from benchmarks.rounds import in_turn
from benchmarks.table import Table
from potstill import recipes
from potstill.cohort import Conditions, train
from potstill.data import Resident, Split, load
from potstill.display import Silent
from potstill.machine import Machine
from potstill.models import build
from potstill.run import Run, result_of
from potstill.store.storage import LIMIT
from potstill.sweep import Sweep

REPETITIONS = 5
TARGET = 0.9


def measure(repetitions: int = REPETITIONS, target: float = TARGET) -> Table:
    """Seconds; without a store the teacher is asked about every view anew, with one the warm-up has asked it before."""
    sweep = recipes.find("digits:quickstart")()
    assert isinstance(sweep, Sweep)
    (teacher,) = sweep.teachers
    arms = {arm.name: arm.run for arm in sweep.arms}
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder, ExitStack() as stack:
        taught = Path(folder) / "taught"
        train([teacher.run], Machine(), Conditions(runs_dir=taught, environment={}, outlets=()), Silent())
        # Two ways of one run must not meet in its folder.
        live, kept = (shutil.copytree(taught, taught.with_name(name)) for name in ("live", "kept"))
        soft, taught_by = arms["hard+soft"], result_of(teacher.run).load(taught)
        ways = {
            "labels": _run_until(arms["labels"], live, 0, target),
            "hard+soft, teacher live": _run_until(soft, live, 0, target),
            "hard+soft, answers kept": _run_until(soft, kept, LIMIT, target),
            "hard+soft, peer-style loop": stack.enter_context(beside(peer_style, taught_by, soft, target)),
        }
        rows = in_turn(ways, repetitions)
    return Table(f"Until {target:.0%} of the validation images of digits:quickstart are right: cpu", "seconds", rows)


def _run_until(run: Run, runs_dir: Path, store: int, target: float) -> Callable[[], float]:
    def on(run: Run, epoch: int, validation: Mapping[str, Any] | None) -> bool:
        return validation is None or validation["accuracy"] < target

    conditions = Conditions(runs_dir=runs_dir, environment={}, outlets=(), store=store, go_on=on)
    seeds = count()

    def once() -> float:
        started = time.perf_counter()
        train([replace(run, seed=next(seeds))], Machine(), conditions, Silent())
        return time.perf_counter() - started

    return once


def peer_style(teacher: nn.Module, run: Run, target: float) -> Callable[[], float]:
    """What measures the seconds of a loop in the manner of this field's repositories."""
    resident, seeds = load(run.data), count()
    (stage,) = run.stages
    assert resident.validation is not None
    options: dict[str, Any] = dict(stage.optimizer.options)
    shown = _images(resident, resident.train, padding=1), _images(resident, resident.validation, padding=None)
    train_batches = loader(shown[0], run.batch_size, learns=True)
    validation = loader(shown[1], run.batch_size, learns=False)

    def once() -> float:
        torch.manual_seed(next(seeds))
        started = time.perf_counter()
        student = build(run.student)
        optimizer = torch.optim.SGD(student.parameters(), stage.optimizer.learning_rate, **options)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, stage.epochs * len(train_batches))
        for _ in range(stage.epochs):
            student.train()
            for batch in train_batches:
                step(student, teacher.eval(), optimizer, batch, "cpu")
                schedule.step()
            student.eval()
            right = 0.0
            with torch.no_grad():
                for images, labels in validation:
                    right += (student(images).argmax(1) == labels).sum().item()
            if right >= target * len(shown[1]):
                break
        return time.perf_counter() - started

    return once


def _images(resident: Resident, split: Split, padding: int | None) -> Images:
    mean, std = (cast(list[float], values.flatten().tolist()) for values in (resident.mean, resident.std))
    return Images(split.images, split.labels, (mean, std), padding)
