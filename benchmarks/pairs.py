"""What the benchmark trains: pairs of networks, images for them, and all that a step needs, set up once."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from potstill.company import Company
from potstill.data import CropFlip, Data, Draw, load
from potstill.learner import Learner
from potstill.machine import Choices, Machine
from potstill.methods import KD, Labels
from potstill.models import Network, build, summarize
from potstill.optim import Optimizer
from potstill.run import Run
from potstill.stage import Stage
from potstill.store.storage import Storage
from potstill.teachers.source import Source
from potstill.teachers.teacher import Given, Surroundings, opened
from potstill.term import Term

BATCH_SIZE = 64
IMAGES = 500
"""Of an epoch: what a teacher is asked about at once."""

SOFT: tuple[Term, ...] = (KD(weight=0.9), Labels(weight=0.1))
LABELS: tuple[Term, ...] = (Labels(),)


@dataclass(frozen=True)
class Pair:
    """A teacher, a student, and images that both can read.

    Attributes:
        teacher: The larger network.
        student: The smaller one.
        shape: (C, H, W) of an image.
        padding: Of the crops.
        peer_steps: Steps of the peer-style loop in each repetition; 0 where nobody would train such a pair so.
    """

    teacher: Network
    student: Network
    shape: tuple[int, int, int] = (3, 32, 32)
    padding: int = 4
    peer_steps: int = 3

    @property
    def name(self) -> str:
        """As it is written in tables."""
        return f"{self.teacher.name} → {self.student.name}"


def _cifar(teacher: str, student: str, peer_steps: int) -> Pair:
    return Pair(Network(teacher, 100), Network(student, 100), peer_steps=peer_steps)


CIFAR = {
    "resnet32x4": _cifar("resnet32x4", "resnet8x4", 3),
    "wrn_40_2": _cifar("wrn_40_2", "wrn_16_2", 4),
    "resnet56": _cifar("resnet56", "resnet20", 8),
}
DIGITS = Pair(
    Network("digits_conv", 10, 1),
    Network("digits_conv", 10, 1, options={"width": 4}),
    shape=(1, 8, 8),
    padding=1,
    peer_steps=0,
)


class Bench:
    """A pair on this machine, with images of noise.

    Attributes:
        pair: The networks.
        machine: What the rules choose here, or were told to.
        network: The teacher as it stands in a model hub: float32, in the ordinary layout, on the CPU.
        resident: The images.
        draw: How they are drawn, with crops and flips.
    """

    def __init__(self, pair: Pair, choices: Choices | None = None):
        choices = choices or Choices()
        self.pair = pair
        size = summarize(build(pair.student), pair.shape, pair.student.name)["mult_adds"]
        self.machine: Machine = choices.resolve(size)
        self.machine.activate()
        self.network = lived_in(pair)
        self._data = images_of(pair)
        self.resident = load(self._data, self.machine.device)
        self.draw = Draw(self.resident, self._data, seed=0, batch_size=BATCH_SIZE)

    def source(self, *, fold: bool = True, storage: Storage | None = None) -> Source:
        """The teacher at work, without a store unless one is given."""
        machine = replace(self.machine, fold=fold)
        around = Surroundings(None, self.resident, machine, self.draw.walk, storage)
        source = opened(Given(Network.given(self.network, self.pair.teacher.classes)), around)
        assert source is not None
        return source

    def run(self, *terms: Term, student: Network | None = None) -> Run:
        """The specification of a training, whose learning rate does no harm on noise."""
        given = Given(Network.given(self.network, self.pair.teacher.classes))
        options = {"momentum": 0.9, "weight_decay": 5e-4}
        stage = Stage(terms=terms, epochs=1000, optimizer=Optimizer(name="SGD", learning_rate=1e-3, options=options))
        student = student or self.pair.student
        return Run(name="bench", student=student, data=self._data, stages=(stage,), teacher=given)

    def learner(self, run: Run, source: Source | None) -> Learner:
        """A new student, as a cohort has it."""
        company = Company(run, self.resident, source, self.machine)
        (stage,) = run.stages
        objective = company.objective(stage, nn.ModuleDict())
        return Learner(objective, stage, self.machine, seed=run.seed, steps_per_epoch=self.draw.steps)

    def wait(self) -> None:
        """Until the device is done."""
        if self.machine.device == "cuda":
            torch.cuda.synchronize()

    def told(self) -> str:
        """The conditions, for a title."""
        choice, shape = self.machine, " × ".join(map(str, self.pair.shape))
        return f"{BATCH_SIZE} images of {shape}, {choice.device}, {choice.precision}, threads: {choice.threads}"


def images_of(pair: Pair) -> Data:
    """Noise, in the bytes of which images are made."""
    generator = np.random.default_rng(0)
    classes = pair.student.classes
    parts = [
        part
        for number in (IMAGES, BATCH_SIZE)
        for part in (generator.integers(256, size=(number, *pair.shape), dtype=np.uint8), np.arange(number) % classes)
    ]
    names = [str(k) for k in range(classes)]
    return Data.given(parts, name="noise", class_names=names, augment=CropFlip(padding=pair.padding))


@torch.no_grad()
def lived_in(pair: Pair) -> nn.Module:
    """The teacher, its batch norms set by what they see, so that no activation grows from layer to layer."""
    torch.manual_seed(0)
    network = build(pair.teacher)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # The plain mean over all batches.
    for _ in range(2):
        network.train()(torch.randn(BATCH_SIZE, *pair.shape))
    return network.eval()
