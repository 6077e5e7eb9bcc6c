"""Runs whose teacher's answers are stored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tiny

from potstill import methods
from potstill.data import CropFlip
from potstill.methods import KD, Labels
from potstill.run import Run
from potstill.stage import Stage
from potstill.teachers import Untrained

ROOM = 2**30

BATCH: dict[str, Any] = {"batch_size": 130}

CONVOLUTIONAL = Untrained(tiny.convolutional())
"""A teacher with maps, which knows nothing."""

FEATURES = {
    "similarity": lambda: methods.Similarity(student=("stage2",), teacher=("stage2",)),
    "crd": lambda: methods.CRD(negatives=16),
    "hint": lambda: methods.Hint(student=("stage1",), teacher=("stage1",)),
}
"""Terms that look at maps and at vectors."""


def soft(name: str = "soft", *, data: Any = None, terms: Sequence[Any] = (KD(), Labels()), **fields: Any) -> Run:
    stage = Stage(terms=tuple(terms), epochs=3, optimizer=tiny.SGD)
    return tiny.run(name, stages=[stage], data=data or shifted(), **fields)


def shifted(train: int = 1300, **fields: Any) -> Any:
    """1,040 images to learn from, in three chunks, and 260 to choose by."""
    return replace(tiny.data(train=train, augment=CropFlip(padding=1)), **fields)


def featured(name: str = "featured", methods: Sequence[str] = tuple(FEATURES), **fields: Any) -> Run:
    """A run that looks at logits, maps and vectors."""
    terms = (KD(), Labels(), *(FEATURES[each]() for each in methods))
    return soft(name, terms=terms, **{"teacher": CONVOLUTIONAL, **fields})
