"""Controls: teachers that have nothing to teach, whatever they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from potstill.codec import LATER, digest, encode
from potstill.data import Resident, Split
from potstill.errors import UserError, expect_kind
from potstill.models import Network, build
from potstill.reading import Reading
from potstill.seeds import fold
from potstill.teachers.source import Live, Source, Turns
from potstill.teachers.teacher import HELD, Derived, Surroundings, Teacher
from potstill.types import Batch, Trace


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
        expect_kind(self.drawn, Network, "Untrained was given", HELD)
        if self.drawn.knows:
            raise UserError(
                f"Untrained was given {self.drawn.name!r} with weights that it learned; name a network without any."
            )

    @property
    def single(self) -> bool:
        """It is."""
        return True

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network."""
        return (self.drawn,)

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """As given."""
        return (self.reading,)

    def identity(self) -> str:
        """The hash of the network, its seed and how it is read."""
        reading = None if self.reading is None else encode(self.reading)
        return digest({"untrained": encode(self.drawn), "seed": self.seed, "reading": reading})

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
class Shuffled(Derived):
    """A control: the right teacher, asked about the wrong image of the batch.

    Attributes:
        right: The teacher.
    """

    def identity(self) -> str:
        """The hash of the right one's."""
        return digest({"shuffled": self.right.identity()})

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


class Misplaced(Source):
    """A control: the right teacher's answer about another image of the batch."""

    answerable = False

    def __init__(self, right: Source):
        self.parts = (right,)
        self.network = right.network

    def look(self, taps: Sequence[str]) -> Trace:
        """The right teacher's."""
        return self.parts[0].look(taps)

    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """What the teacher says of the image before."""
        return _rolled(self.parts[0](batch, split, taps, turns, logits=logits))

    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """The right ones: what agreement is measured against."""
        return self.parts[0].answers(split, turn)

    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """The right teacher's."""
        return self.parts[0].passes_per_view(turns, taps, logits=logits)

    def networks(self, taps: Sequence[str]) -> list[tuple[Live, tuple[str, ...]]]:
        """The right teacher's."""
        return self.parts[0].networks(taps)


class Even(Source):
    """A control: every class is as likely as any other, whatever the image."""

    answerable = False

    def __init__(self, resident: Resident):
        self._resident = resident

    def look(self, taps: Sequence[str]) -> Trace:
        """Zeros; it has no activations."""
        if taps:
            raise UserError(f"The teacher is uniform and has no tap {taps[0]!r}; leave the terms out that need it.")
        return Trace(self._resident.mean.new_zeros(2, self._resident.classes), {})

    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """Zeros."""
        return Trace(batch.inputs.new_zeros(len(batch.labels), self._resident.classes), {})

    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """Zeros."""
        count = int(split.index.max()) + 1
        return self._resident.mean.new_zeros(count, self._resident.classes)

    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """None."""
        return 0.0

    def networks(self, taps: Sequence[str]) -> list[tuple[Live, tuple[str, ...]]]:
        """None."""
        return []


def _rolled(answer: Trace) -> Trace:
    taps = {tap: value.roll(1, 0) for tap, value in answer.taps.items()}
    return Trace(answer.logits.roll(1, 0), taps, tuple(map(_rolled, answer.members)))
