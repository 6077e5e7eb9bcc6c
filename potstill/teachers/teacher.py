"""Who teaches, as plain data: frozen networks and what is made of them, or something that comes about with the student.

*Outside* teachers are frozen, never in a checkpoint, and shared by all who name them; *inside* ones are part of one
student's training. All of them answer a `Trace`.
"""

import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from potstill.codec import LATER, digest, encode
from potstill.data import Resident, Views
from potstill.errors import UserError, expect_kind
from potstill.folding import fold
from potstill.machine import Machine
from potstill.models import Network, build
from potstill.reading import Reading
from potstill.store.sampling import Sample
from potstill.store.storage import Storage
from potstill.teachers.inside import Inside
from potstill.teachers.source import Live, Source

if TYPE_CHECKING:
    from potstill.run import Run


HELD = "a Network: Network.given(module, classes) makes one of a module that you hold"
NAMED = "a teacher: result_of(run) or Given(Network.given(module, classes)) makes one"
"""What is expected, where something else was given."""


class Surroundings(NamedTuple):
    """What an outside teacher is set to work in.

    Attributes:
        runs_dir: Where run folders are; None to rehearse with networks that were not trained yet.
        resident: The data.
        machine: What it runs on.
        walk: Each image's walk through its views; None without augmentation.
        storage: Where what networks say is stored; None for nowhere.
        sample: How classes are drawn from what networks say of training images; None for all logits.
    """

    runs_dir: Path | None
    resident: Resident
    machine: Machine
    walk: Views | None
    storage: Storage | None = None
    sample: Sample | None = None

    def live(self, label: str, network: nn.Module, reading: Reading | None = None) -> Live:
        """A network at work in them, with the store of what it said before.

        Args:
            label: What the store is called.
            network: The network, on the CPU; it is folded where the machine says so.
            reading: How it reads images and names classes.
        """
        if self.machine.fold:
            shape = self.resident.shape
            fold(network, shape if reading is None else reading.shape(shape))
        store = None
        if self.storage is not None:
            store = self.storage.open(label, network, reading, self.resident, self.machine)
        return Live(network, self.resident, self.machine, self.walk, reading, store, self.sample)


@dataclass(frozen=True)
class Teacher(abc.ABC):
    """The specification of a teacher."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks in it, for tables."""
        return ()

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """How each of these networks reads images and names classes; None for as the data has them."""
        return (None,) * len(self.networks)

    @property
    def runs(self) -> "tuple[Run, ...]":
        """The runs that must be finished before it can teach."""
        return ()

    @property
    def peers(self) -> tuple[Network, ...]:
        """Networks that learn along with the student, and are taught by it."""
        return ()

    @property
    def outside(self) -> bool:
        """Whether it is frozen and shared, rather than part of the student's training."""
        return True

    @property
    def single(self) -> bool:
        """Whether it is one network, which `load` gives."""
        return False

    @property
    def certain(self) -> bool:
        """Whether some of its logits stand for a label alone, and are no numbers to compare."""
        return False

    @property
    def passes_beside(self) -> int:
        """Where it is part of the training: forward passes beside the student's in each step."""
        return 0

    @property
    def in_turn(self) -> bool:
        """Whether student and peers take their steps one after another."""
        return False

    @property
    def sample(self) -> Sample | None:
        """How classes are drawn from what it says of training images; None where it says everything."""
        return None

    @abc.abstractmethod
    def identity(self) -> str:
        """What tells it from every other teacher, weights included."""

    def load(self, runs_dir: Path | None) -> nn.Module:
        """The network on the CPU, with its weights; with those that it begins with where no folder is given.

        Raises:
            UserError: it is no single network.
        """
        raise UserError(f"{type(self).__name__} is no single network; name one trained network as the teacher.")

    def open(self, around: Surroundings) -> Source:
        """The teacher at work, where it is an outside one."""
        network = self.load(around.runs_dir)
        return around.live(self.networks[0].name, network)

    def accompany(self, student: nn.Module, resident: Resident, *, companions: bool) -> Inside | None:
        """The teacher at work, where it is an inside one with a state of its own.

        Args:
            student: Whose teacher it is.
            resident: The data.
            companions: Whether the second half of each batch came along with the drawn images.
        """
        return None


def opened(teacher: Teacher | None, around: Surroundings) -> Source | None:
    """A teacher at work; None where there is none, or it comes about with the student."""
    return teacher.open(around) if teacher is not None and teacher.outside else None


@dataclass(frozen=True)
class Given(Teacher):
    """A trained network that the caller holds.

    Attributes:
        given: The network.
        reading: How it reads images and names classes, where that is not how the data has them.
    """

    given: Network
    reading: Reading | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        expect_kind(self.given, Network, "Given holds", HELD)

    @property
    def single(self) -> bool:
        """It is."""
        return True

    @property
    def networks(self) -> tuple[Network, ...]:
        """The given network."""
        return (self.given,)

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """As given."""
        return (self.reading,)

    def identity(self) -> str:
        """The hash of its weights and class, and of how it is read."""
        given = encode(self.given)
        return digest(given if self.reading is None else {"given": given, "reading": encode(self.reading)})

    def load(self, runs_dir: Path | None) -> nn.Module:
        """A copy of the given module."""
        return build(self.given)

    def open(self, around: Surroundings) -> Source:
        """The network at work."""
        return around.live(self.given.name, self.load(around.runs_dir), self.reading)


@dataclass(frozen=True)
class Derived(Teacher):
    """A teacher that is made of another one, whose networks are its own.

    Attributes:
        right: The other one.
    """

    right: Teacher

    def __post_init__(self) -> None:
        expect_kind(self.right, Teacher, f"{type(self).__name__} was given", NAMED)

    @property
    def single(self) -> bool:
        """As the right teacher."""
        return self.right.single

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

    def load(self, runs_dir: Path | None) -> nn.Module:
        """The right teacher's network."""
        return self.right.load(runs_dir)
