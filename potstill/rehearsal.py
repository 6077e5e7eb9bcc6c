"""Whether the stages of a run fit, before anything is trained."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from potstill.architecture import of_student, of_teacher
from potstill.codec import encode
from potstill.data import Data, Resident, Split, classes_of, content, info, shape_of
from potstill.machine import Machine
from potstill.run import Run
from potstill.teachers.source import Source
from potstill.teachers.teacher import Surroundings, opened
from potstill.training import Training

_MACHINE = Machine()
_fitting: set[str] = set()  # What was rehearsed in this process: a command asks more than once.


def rehearse(runs: Iterable[Run]) -> None:
    """Enter every stage of these runs with untrained networks on the CPU, once for all that differ in seeds only.

    Neither the images nor a folder are looked at.

    Raises:
        UserError: something about a run does not fit: a glob, a tap, layers that are compared, an option.
    """
    sources: dict[str, Source | None] = {}
    for run in runs:
        if (key := key_of(run)) not in _fitting:
            taught = _taught(run)
            if taught not in sources:
                sources[taught] = _source(run)
            _entered(run, sources[taught])  # It refuses what is unfit.
            _fitting.add(key)


def rehearsed(run: Run) -> Training:
    """A run in its first stage, with untrained networks on the CPU and black images.

    Raises:
        UserError: what `rehearse` raises.
    """
    return _entered(run, _source(run))


def key_of(run: Run) -> str:
    """What decides how a rehearsal goes, as a text: everything but the seed and the images."""
    stages = [encode(stage) for stage in run.stages]
    return json.dumps([encode(run.data), _taught(run), of_student(run), stages, run.batch_size])


def _taught(run: Run) -> str:
    return json.dumps([content(run.data), of_teacher(run.teacher), run.fold])


def _source(run: Run) -> Source | None:
    with torch.random.fork_rng(devices=[]):
        machine = replace(_MACHINE, fold=run.fold)
        return opened(run.teacher, Surroundings(None, _stand_in(run.data), machine, None))


def _entered(run: Run, source: Source | None) -> Training:
    return Training(run, Path(), _stand_in(run.data), source, _MACHINE, steps_per_epoch=1)


def _stand_in(data: Data) -> Resident:
    """Black images in place of a set that may have to be fetched first, with its labels where they are here."""
    shape, classes = shape_of(data), classes_of(data)
    # Of a named set as many of each class; and validation images among them, because their choice takes loading.
    labels = torch.arange(info(data.name).train) % classes if data.arrays is None else data.arrays.y_train
    images = torch.zeros(1, *shape, dtype=torch.uint8).expand(len(labels), *shape)  # One image of memory.
    split = Split("train", images, labels, torch.arange(len(labels)))
    return Resident(
        name=data.name,
        classes=classes,
        class_names=tuple(map(str, range(classes))),
        shape=shape,
        mean=torch.zeros(shape[0], 1, 1),
        std=torch.ones(shape[0], 1, 1),
        train=split,
        validation=None,
        test=split,
        augment=data.augment,
        available=1 if data.augment is None else data.augment.count(shape),
    )
