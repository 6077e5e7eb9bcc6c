"""The layers of a student beside those of its teacher, with the weights that it began and ended with."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from potstill.analysis.cka import FEWEST, relations, similarity
from potstill.codec import digest
from potstill.data import Resident, Split, rows
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.models import aliases
from potstill.report.attached import Similarity
from potstill.seeds import fold
from potstill.sight import look
from potstill.taps import trace
from potstill.teachers.source import Source
from potstill.types import Batch

IMAGES = 256
"""Test images that layers are compared on: a fixed draw, which depends on the name of the data alone."""

CHILDREN = 8
"""How many parts of a network of an unknown family are looked at."""

LOGITS = "logits"

Related = dict[str, Tensor | None]
"""Relations between the images, by layer."""


def key(fingerprint: str) -> str:
    """What a similarity is computed from: the run, which fixes both networks, and how it is done here."""
    return digest({"run": fingerprint, "images": IMAGES, "estimator": "linear CKA, unbiased HSIC", "version": 1})


def sample(resident: Resident) -> Split:
    """The images.

    Raises:
        UserError: there are too few.
    """
    test = resident.test
    drawn = rows(fold(0, "analysis", resident.name), 0, len(test))[:IMAGES]
    if len(drawn) < FEWEST:
        raise UserError(f"{resident.name!r} has {len(drawn)} test images; layers are compared on at least {FEWEST}.")
    place = torch.from_numpy(np.sort(drawn)).to(test.labels.device)
    return Split("sample", test.images[place], test.labels[place], torch.arange(len(place), device=place.device))


def of_teacher(source: Source, resident: Resident, chosen: Split) -> Related:
    """What relates the images in each layer of a teacher that is one network."""
    assert source.network is not None
    taps = [tap for tap in candidates(source.network) if _answers(lambda tap=tap: source.look([tap]))]
    answer = source(_batch(resident, chosen), chosen, taps)
    return {**{tap: relations(answer.taps[tap]) for tap in taps}, LOGITS: relations(answer.logits)}


@torch.no_grad()
def of_student(network: nn.Module, resident: Resident, chosen: Split, machine: Machine) -> Related:
    """The same of a student, in evaluation mode."""
    shape, classes = resident.shape, resident.classes
    placed = machine.place(network).eval()
    taps = [
        tap for tap in candidates(network) if _answers(lambda tap=tap: look("student", placed, [tap], shape, classes))
    ]
    answer = trace(placed, aliases=aliases(placed))(_batch(resident, chosen).inputs, taps)
    return {**{tap: relations(answer.taps[tap]) for tap in taps}, LOGITS: relations(answer.logits)}


def compared(fingerprint: str, teacher: Related, before: Related, after: Related, images: int) -> Similarity:
    """Every layer of the student with every layer of the teacher."""
    student, names = tuple(after), tuple(teacher)
    then, now = (_table([related[layer] for layer in student], list(teacher.values())) for related in (before, after))
    return Similarity(key(fingerprint), student, names, then, now, images)


def candidates(network: nn.Module) -> list[str]:
    """Taps worth comparing: the aliases of stages where the family is known, else the network's own parts."""
    named = [alias for alias in aliases(network) if "." not in alias and alias != LOGITS]
    if named:
        return named
    parts = [name for name, _ in network.named_children()][:-1]  # The last one gives the logits, as a rule.
    places = np.linspace(0, len(parts) - 1, min(len(parts), CHILDREN)).round().astype(int)
    return [parts[place] for place in dict.fromkeys(places.tolist())]


def _batch(resident: Resident, chosen: Split) -> Batch:
    return resident.batch(chosen, chosen.index)


def _answers(ask: Callable[[], object]) -> bool:
    """Whether a tap can be had."""
    try:
        ask()
    except UserError:
        return False
    return True


def _table(student: Sequence[Tensor | None], teacher: Sequence[Tensor | None]) -> np.ndarray:
    found = [[similarity(ours, theirs) for theirs in teacher] for ours in student]
    return np.array([[np.nan if value is None else value for value in line] for line in found])
