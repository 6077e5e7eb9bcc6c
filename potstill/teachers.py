"""Kinds of teachers beside the trained network: ensembles, controls, the student's own average and past, its peers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from potstill.choir import Choir, Even, Misplaced
from potstill.codec import LATER, digest, encode
from potstill.data import Resident
from potstill.errors import UserError
from potstill.inside import Average, Inside, Past
from potstill.models import Network, build
from potstill.reading import Reading
from potstill.seeds import fold
from potstill.source import Source
from potstill.store.sampling import Sample
from potstill.teacher import Surroundings, Teacher, expect_kind

if TYPE_CHECKING:
    from potstill.run import Run

Update = Literal["together", "in turn"]


@dataclass(frozen=True)
class Untrained(Teacher):
    """A control: a network as it was drawn, which knows nothing.

    Attributes:
        drawn: The network.
        seed: Of its weights.
        reading: How it reads images and names classes, where that is not how the data has them.
    """

    drawn: Network
    seed: int = 0
    reading: Reading | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if self.drawn.knows:
            raise UserError(
                f"Untrained was given {self.drawn.name!r} with weights that it learned; name a network without any."
            )

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network."""
        return (self.drawn,)

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """As given."""
        return (self.reading,)

    def identity(self) -> str:
        """The hash of the specification."""
        return digest({"untrained": encode(self)})

    def load(self, runs_dir: Path | None) -> nn.Module:
        """The network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(self.seed, "untrained"))
            return build(self.drawn)

    def open(self, around: Surroundings) -> Source:
        """The network at work; it is not asked to be better than chance."""
        source = around.live(self.drawn.name, self.load(around.runs_dir), self.reading)
        source.answerable = False
        return source


@dataclass(frozen=True)
class Shuffled(Teacher):
    """A control: the right teacher, asked about the wrong image of the batch.

    Attributes:
        right: The teacher.
    """

    right: Teacher

    @property
    def networks(self) -> tuple[Network, ...]:
        """The right teacher's."""
        return self.right.networks

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """The right teacher's."""
        return self.right.readings

    @property
    def runs(self) -> "tuple[Run, ...]":
        """The right teacher's."""
        return self.right.runs

    @property
    def sample(self) -> Sample | None:
        """The right teacher's."""
        return self.right.sample

    def identity(self) -> str:
        """The hash of the right one's."""
        return digest({"shuffled": self.right.identity()})

    def load(self, runs_dir: Path | None) -> nn.Module:
        """The right teacher's network."""
        return self.right.load(runs_dir)

    def open(self, around: Surroundings) -> Source:
        """The right teacher at work on the wrong images."""
        return Misplaced(self.right.open(around))


@dataclass(frozen=True)
class Uniform(Teacher):
    """A control, and label smoothing by another name: every class is as likely as any other."""

    def identity(self) -> str:
        """There is but one."""
        return digest({"uniform": True})

    def open(self, around: Surroundings) -> Source:
        """It needs nothing."""
        return Even(around.resident)


@dataclass(frozen=True)
class Ensemble(Teacher):
    """Several outside teachers, of any architectures, that speak as one: the weighted mean of their logits.

    Terms that weigh them anew for every image look at each one's own trace (`Trace.members`). A tap names its member by
    place: `0/stage3`.

    Attributes:
        teachers: Two or more.
        weights: One each, to be divided by their sum; empty for equal ones.
    """

    teachers: tuple[Teacher, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.teachers) < 2:
            raise UserError(f"The ensemble has {len(self.teachers)} teachers; give it at least two.")
        expect_kind(Teacher, self.teachers, "The ensemble was given", "teachers: Given(Network.given(module, classes))")
        if any(not teacher.outside for teacher in self.teachers):
            raise UserError("An ensemble takes outside teachers only: trained networks and what is made of them.")
        if any(teacher.sample is not None for teacher in self.teachers):
            raise UserError("A member of the ensemble is Sampled, but its mean is of whole answers; give it as it is.")
        if len({frozenset[int]() if reading is None else reading.missing for reading in self.readings}) > 1:
            raise UserError(
                "The teachers of an ensemble lack different classes, so they have no mean; give it teachers that know "
                "the same ones."
            )
        if self.weights and (len(self.weights) != len(self.teachers) or not all(w > 0 for w in self.weights)):
            raise UserError(
                f"The ensemble of {len(self.teachers)} teachers has the weights {self.weights}; expected one each, > 0."
            )

    @property
    def networks(self) -> tuple[Network, ...]:
        """All members'."""
        return tuple(network for teacher in self.teachers for network in teacher.networks)

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """All members'."""
        return tuple(reading for teacher in self.teachers for reading in teacher.readings)

    @property
    def runs(self) -> "tuple[Run, ...]":
        """All members'."""
        return tuple(run for teacher in self.teachers for run in teacher.runs)

    def identity(self) -> str:
        """The hash of the members' and the weights."""
        return digest({"ensemble": [teacher.identity() for teacher in self.teachers], "weights": list(self.weights)})

    def open(self, around: Surroundings) -> Source:
        """All of them at work."""
        weights = self.weights or (1.0,) * len(self.teachers)
        shares = [weight / sum(weights) for weight in weights]
        return Choir([teacher.open(around) for teacher in self.teachers], shares, around.resident)


@dataclass(frozen=True)
class EMA(Teacher):
    """The average of the student's own weights over its steps.

    Antti Tarvainen, Harri Valpola: Mean teachers are better role models. NIPS 2017, arXiv:1703.01780.

    Attributes:
        decay: Of the average, once as many steps were taken as it needs: min(1 − 1/(step + 1), decay).
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"The decay of the averaged student is {self.decay:g}; expected a share from 0 to below 1.")

    @property
    def outside(self) -> bool:
        """It is part of the training."""
        return False

    @property
    def passes_beside(self) -> int:
        """The average's own."""
        return 1

    def identity(self) -> str:
        """The hash of the specification."""
        return digest({"ema": encode(self)})

    def accompany(self, student: nn.Module, resident: Resident, *, companions: bool) -> Inside:
        """The average, which begins as the student does."""
        return Average(student, self.decay, resident.classes)


@dataclass(frozen=True)
class OwnPast(Teacher):
    """What the student said of each image when it was last drawn, an epoch ago; the labels before that.

    Kyungyul Kim, ByeongMoon Ji, Doyoung Yoon, Sangheum Hwang: Self-Knowledge Distillation with Progressive Refinement
    of Targets. ICCV 2021, arXiv:2006.12000.
    """

    @property
    def outside(self) -> bool:
        """It is part of the training."""
        return False

    def identity(self) -> str:
        """There is but one."""
        return digest({"past": True})

    def accompany(self, student: nn.Module, resident: Resident, *, companions: bool) -> Inside:
        """An empty table."""
        images = len(resident.train) + (0 if resident.validation is None else len(resident.validation))
        return Past(images, resident.classes, accompanied=companions)


@dataclass(frozen=True)
class Peers(Teacher):
    """Networks that learn along with the student, from the same terms, each taught by the others.

    What teaches one of them is the mean of the others' logits, with each one's own trace as a member, and the
    activations of the next one in the round. The best on the validation split of those of the student's architecture
    ships; without such a split, or such a peer, the student itself.

    Attributes:
        others: The networks beside the student.
        update: "together": one step for all from the same predictions; "in turn": each steps after the one before it
            has, and everybody looks again.
    """

    others: tuple[Network, ...]
    update: Update = "together"

    def __post_init__(self) -> None:
        if not self.others:
            raise UserError("Peers were given no other network; name at least one.")
        expect_kind(Network, self.others, "Peers were given", "networks: Network.given(module, classes)")
        if self.update not in get_args(Update):
            raise UserError(f"Peers update {self.update!r}; expected together or in turn.")

    @property
    def networks(self) -> tuple[Network, ...]:
        """The others."""
        return self.others

    @property
    def peers(self) -> tuple[Network, ...]:
        """The others."""
        return self.others

    @property
    def outside(self) -> bool:
        """They are part of the training."""
        return False

    @property
    def passes_beside(self) -> int:
        """Everybody's, as often as they look, but for one of the student's."""
        size = 1 + len(self.others)
        return size * (size if self.in_turn else 1) - 1

    @property
    def in_turn(self) -> bool:
        """As was asked for."""
        return self.update == "in turn"

    def identity(self) -> str:
        """The hash of the specification."""
        return digest({"peers": encode(self)})
