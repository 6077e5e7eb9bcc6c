"""Teachers judged before they teach."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from potstill.data import Resident, Split
from potstill.errors import UserError
from potstill.store.kept import chunks
from potstill.teachers.source import Source

FIRST = 2_000
"""Training images on which a teacher is judged where there is no validation split: the first so many."""


class Judgement(NamedTuple):
    """What was found.

    Attributes:
        accuracy: The teacher's.
        members: That of each teacher that it speaks for; empty where it is one.
        lines: What a person is told.
    """

    accuracy: float
    members: tuple[float, ...]
    lines: tuple[str, ...]


def gate(source: Source, resident: Resident, at_least: float | None) -> Judgement:
    """Judge a teacher, and every teacher that it speaks for, on data that chooses nothing.

    The images are the validation split, or the first 2,000 of the training split where there is none.

    Args:
        source: The teacher.
        resident: The data.
        at_least: The accuracy that each must reach; None asks only for better than chance, by four standard errors, or
            by half of what there is above chance where images are so few that this is less. Controls pass.

    Raises:
        UserError: one is at chance, or below `at_least`.
    """
    several = source.answerable and len(source.parts) > 1
    members = [_judged(part, resident, at_least) for part in _leaves(source)] if several else []
    accuracy, line = _judged(source, resident, at_least)
    return Judgement(accuracy, tuple(own for own, _ in members), (*(said for _, said in members), line))


def _leaves(source: Source) -> Iterator[Source]:
    """The teachers that it speaks for, those of an ensemble among them one by one; a control speaks for itself."""
    if not source.answerable or len(source.parts) < 2:
        yield source
        return
    for part in source.parts:
        yield from _leaves(part)


def _judged(source: Source, resident: Resident, at_least: float | None) -> tuple[float, str]:
    split = resident.validation or _head(resident.train, FIRST)
    count = len(split)
    logits = torch.cat([source(batch, split).logits for batch in chunks(resident, split)])
    accuracy = (logits.argmax(1) == split.labels).float().mean().item()
    chance = split.labels.bincount().max().item() / count  # The share of the commonest label.
    line = f"{source.called}: {accuracy:.2%} on {count:,} images"
    if not source.answerable:
        return accuracy, f"{line} (a control)"
    if accuracy <= chance + min(4 * math.sqrt(chance * (1 - chance) / count), (1 - chance) / 2):
        raise UserError(
            f"The {source.called} is at chance ({accuracy:.2%} on {count:,} images, guessing gives {chance:.2%}); "
            "check that its weights were loaded, and that its classes and normalisation are those of the data."
        )
    if at_least is not None and accuracy < at_least:
        raise UserError(
            f"The {source.called} reaches {accuracy:.2%} on {count:,} images, below the {at_least:.2%} asked for with "
            "--teacher-at-least; give it a better one, or ask for less."
        )
    return accuracy, line


def _head(split: Split, count: int) -> Split:
    """The first `count` images of a split, as a split of their own."""
    return Split(f"{split.name}[:{count}]", split.images[:count], split.labels[:count], split.index[:count])
