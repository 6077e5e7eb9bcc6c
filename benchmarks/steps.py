"""What a training step costs, and what the teacher and the data add to it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat

import numpy as np
import torch
from torch import nn

from benchmarks.timing import Table, in_turn
from potstill.data import Data, Resident, load, rows
from potstill.learner import Learner
from potstill.machine import Choices, Machine
from potstill.methods import KD, Labels
from potstill.models import Network, aliases, build, summarize
from potstill.objective import Objective
from potstill.optim import Optimizer
from potstill.source import Live
from potstill.stage import Stage
from potstill.taps import trace
from potstill.term import Term
from potstill.types import Batch, Trace

REPETITIONS = 7
BATCH_SIZE = 64

Fed = tuple[Batch, Trace | None]


@dataclass(frozen=True)
class Pair:
    """A teacher, a student, and images that both can read.

    Attributes:
        name: A label.
        teacher: The larger network.
        student: The smaller one.
        shape: (C, H, W) of an image.
        steps: Steps per repetition: so many that one takes a noticeable time on two CPU cores.
    """

    name: str
    teacher: Network
    student: Network
    shape: tuple[int, int, int]
    steps: int


DIGITS = Pair(
    "digits_conv",
    teacher=Network("digits_conv", 10, 1),
    student=Network("digits_conv", 10, 1, options={"width": 4}),
    shape=(1, 8, 8),
    steps=200,
)
CIFAR = Pair(
    "resnet32x4",
    teacher=Network("resnet32x4", 100),
    student=Network("resnet8x4", 100),
    shape=(3, 32, 32),
    steps=4,
)


def measure(pair: Pair, repetitions: int = REPETITIONS) -> Table:
    """Images per second of the same student on the same random images, in four ways.

    "constant batch" draws nothing: against it the labels row tells what the data costs. In "kd, answers kept" the
    teacher was asked once about every image, before; in "kd, teacher live" it is asked at every step.
    """
    machine = Choices().resolve(summarize(build(pair.student), pair.shape, pair.name)["mult_adds"])
    machine.activate()
    resident = load(_images(pair), machine.device)
    train = resident.train
    torch.manual_seed(0)
    source = Live(build(pair.teacher), resident, machine)
    source.answers(train)
    soft, labels = (KD(weight=0.9), Labels(weight=0.1)), (Labels(),)
    ways: dict[str, tuple[tuple[Term, ...], Iterator[Fed]]] = {
        "labels": (labels, ((batch, None) for batch in _batches(resident))),
        "labels, constant batch": (labels, repeat((next(_batches(resident)), None))),
        "kd, answers kept": (soft, ((batch, source(batch, train)) for batch in _batches(resident))),
        # A tap is what makes the teacher be asked even where there is a single view of each image.
        "kd, teacher live": (soft, ((batch, source(batch, train, ("pooled",))) for batch in _batches(resident))),
    }
    found = in_turn(
        {
            name: partial(_rate, _learner(pair, machine, terms), feed, pair.steps)
            for name, (terms, feed) in ways.items()
        },
        repetitions,
    )
    title = (
        f"A training step of {pair.student.name}, taught by {pair.teacher.name}: {BATCH_SIZE} images of "
        f"{' × '.join(map(str, pair.shape))}, {machine.device}, {machine.precision}, threads: {machine.threads}"
    )
    return Table(title, "images/s", found)


def _images(pair: Pair) -> Data:
    """Noise, in whole batches."""
    generator = np.random.default_rng(0)
    classes = pair.student.classes
    parts = [
        part
        for number in (4 * BATCH_SIZE, BATCH_SIZE)
        for part in (generator.integers(256, size=(number, *pair.shape), dtype=np.uint8), np.arange(number) % classes)
    ]
    return Data.given(parts, name=pair.name, class_names=[str(k) for k in range(classes)])


def _batches(resident: Resident) -> Iterator[Batch]:
    """Batches without end, drawn as a run draws them."""
    for epoch in count():
        order = torch.from_numpy(rows(0, epoch, len(resident.train))).to(resident.train.labels.device)
        for start in range(0, len(order), BATCH_SIZE):
            yield resident.batch(resident.train, order[start : start + BATCH_SIZE])


def _learner(pair: Pair, machine: Machine, terms: tuple[Term, ...]) -> Learner:
    """A new student with an optimizer, and a learning rate at which noise does no harm."""
    torch.manual_seed(0)
    student = machine.place(build(pair.student))
    tracer = trace(student, aliases=aliases(student), compile=machine.compile)
    optimizer = Optimizer(name="SGD", learning_rate=1e-3, options={"momentum": 0.9, "weight_decay": 5e-4})
    stage = Stage(terms=terms, epochs=1, optimizer=optimizer)
    return Learner(Objective(student, nn.ModuleDict(), terms, tracer), stage, machine, seed=0, steps_per_epoch=4)


def _rate(learner: Learner, feed: Iterator[Fed], steps: int) -> float:
    """Images per second over a number of steps."""
    started = time.perf_counter()
    for _ in range(steps):
        batch, answer = next(feed)
        learner.step(batch, answer, learner.stage_step)
    learner.finite()  # Waits for the device.
    return steps * BATCH_SIZE / (time.perf_counter() - started)
