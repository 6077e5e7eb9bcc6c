"""Every term of the package, found by itself, between networks that it takes: what tests of all terms share."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.maps import plan
from potstill import methods
from potstill.data import CropFlip, Data, Resident, load
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.models import Network, aliases, build
from potstill.objective import learn, loss_of
from potstill.optim import Optimizer
from potstill.sight import look
from potstill.taps import trace
from potstill.teachers.ensemble import Choir
from potstill.teachers.source import Live, Source
from potstill.term import Progress, Term
from potstill.types import Batch, Trace

CLASSES, SIDE, BATCH = 4, 16, 6

# What fields without a default are given, by the name of the field.
ARGUMENTS: Mapping[str, Any] = {"temperature": 4.0, "alpha": 0.5, "population": 18}

VIT: dict[str, bool | int | float | str] = {
    "img_size": SIDE,
    "patch_size": 2,
    "depth": 4,
    "embed_dim": 24,
    "num_heads": 2,
}
NETWORKS = {
    "resnet8": Network("resnet8", CLASSES),
    "wrn_16_2": Network("wrn_16_2", CLASSES),
    "torchvision": Network("torchvision:resnet18", CLASSES),
    "vit": Network("timm:vit_tiny_patch16_224", CLASSES, options=VIT),
}
# Student and teacher: equal, of other widths, of other widths and resolutions, and of another kind.
PAIRS = [("resnet8", "resnet8"), ("resnet8", "wrn_16_2"), ("torchvision", "resnet8"), ("resnet8", "vit")]


def found() -> list[type[Term]]:
    kinds: dict[str, type[Term]] = {}
    for info in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
        module = importlib.import_module(info.name)
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Term) and kind.__module__ == info.name:
                kinds[kind.__name__] = kind
    return [kinds[name] for name in sorted(kinds)]


TERMS = found()
every_term = pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)


def made(kind: type[Term], **options: Any) -> Term:
    due = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    return kind(**{name: ARGUMENTS[name] for name in due}, **options)


@cache
def network(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = build(NETWORKS[name])
    # Some initial classifiers are zero, through which no gradient flows back.
    last = net.get_submodule(aliases(net)["logits"])
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.1)
    return net


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32), np.arange(count) % CLASSES


def batch(count: int = BATCH) -> Batch:
    x, y = images(count, 3)
    zeros = torch.zeros(count, dtype=torch.int64)
    return Batch(torch.from_numpy(x), torch.from_numpy(y), torch.arange(count), zeros)


@cache
def resident() -> Resident:
    # Of augmented images without a walk no answer is remembered, so that a teacher is asked about the very batch.
    data = (*images(20, 1), *images(8, 2))
    return load(Data.given(data, name="tiny", validation=0.2, augment=CropFlip(padding=1)))


# The seeds of a teacher's weights, or of those of the several that one term weighs.
SEEDS = {False: (2,), True: (2, 3, 4)}


def asked(name: str, several: bool) -> Source:
    """A teacher, or an ensemble of some of one kind; not frozen, so that a gradient which reaches it is seen."""
    networks = [deepcopy(network(name, seed)) for seed in SEEDS[several]]
    parts = [Live(each, resident(), Machine()) for each in networks]
    for each in networks:
        each.requires_grad_(True)
    return Choir(parts, [1 / len(parts)] * len(parts), resident()) if several else parts[0]


# Without weight decay, so that nothing moves but by gradients.
SLOW = Optimizer(name="SGD", learning_rate=0.002, options={"momentum": 0.9})


class Pair:
    """A student, a teacher, a term between them and what it learns."""

    def __init__(self, term: Term, student: str, teacher: str):
        self.term = term
        self.student = deepcopy(network(student, 1)).train()
        self.source = asked(teacher, term.several)
        self.learned = nn.ModuleDict()
        shown = look("student", self.student, term.student_taps, (3, SIDE, SIDE), CLASSES)
        told = self.source.look(term.teacher_taps)
        learn([term], self.learned, shown, told, plan(self.teacher, self.student, BATCH, CLASSES, images=18), 7)

    @property
    def teacher(self) -> nn.Module:
        assert self.source.network is not None
        return self.source.network

    @property
    def part(self) -> nn.Module | None:
        return next(iter(self.learned.values()), None)

    def traces(self, shown: Batch) -> tuple[Trace, Trace]:
        ours = trace(self.student, aliases=aliases(self.student))(shown.inputs, self.term.student_taps)
        return ours, self.source(shown, resident().train, self.term.teacher_taps)

    def loss(self, images: int = BATCH, step: int = 0) -> Tensor:
        shown = batch(images)
        ours, theirs = self.traces(shown)
        torch.manual_seed(step)
        return loss_of(self.term, shown, ours, theirs, self.part, Progress(step, 0.0, 1))


def pair_or_refusal(term: Term, student: str, teacher: str) -> Pair | None:
    """The pair, or None where its refusal is one sentence that names what does not fit."""
    try:
        return Pair(term, student, teacher)
    except UserError as refusal:
        told = str(refusal)
        assert told.endswith((".", "?"))
        assert "\n" not in told
        assert 30 < len(told) < 400
        return None


def fitting(kind: type[Term]) -> tuple[Pair, str, str]:
    """Networks of unlike widths where a term takes them, else equal ones."""
    for student, teacher in (PAIRS[1], PAIRS[0]):
        if (pair := pair_or_refusal(made(kind), student, teacher)) is not None:
            return pair, student, teacher
    raise AssertionError(f"{kind.__name__} refuses equal networks")
