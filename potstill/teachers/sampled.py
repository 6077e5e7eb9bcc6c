"""A teacher of so many classes that a few of them, drawn, stand for its answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from potstill.codec import digest, encode
from potstill.errors import UserError, expect_kind
from potstill.models import Network
from potstill.reading import Reading
from potstill.store.sampling import Sample
from potstill.teachers.source import Source
from potstill.teachers.teacher import NAMED, Surroundings, Teacher

if TYPE_CHECKING:
    from potstill.run import Run


@dataclass(frozen=True, kw_only=True)
class Sampled(Teacher):
    """A trained network of whose answer about a training image only drawn classes are kept, and handed on.

    The expectation of the gradient of soft targets is that of the whole answer (see `potstill.store.sampling`), so
    `KD` at this temperature may learn from it, and no other term that looks at a teacher. Each view of an image has
    draws of its own; where images have a single view they are the same in every epoch. Validation and test images are
    compared with the whole answers.

    Attributes:
        right: The trained network.
        draws: How many classes are drawn of each image in each view, with repetition.
        temperature: At which they are drawn: that of the term.
    """

    right: Teacher
    draws: int = 64
    temperature: float = 4.0

    def __post_init__(self) -> None:
        Sample(self.draws, self.temperature)  # It refuses what is none.
        expect_kind(self.right, Teacher, "Sampled was given", NAMED)
        if not self.right.single or self.right.sample is not None:
            raise UserError(
                "Classes are drawn from what one trained network says; give Sampled such a teacher, and not several."
            )

    @property
    def single(self) -> bool:
        """It is."""
        return True

    @property
    def sample(self) -> Sample:
        """As given."""
        return Sample(self.draws, self.temperature)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The trained network."""
        return self.right.networks

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """The right teacher's."""
        return self.right.readings

    @property
    def runs(self) -> "tuple[Run, ...]":
        """The right teacher's."""
        return self.right.runs

    def identity(self) -> str:
        """The hash of the right one's and of how classes are drawn."""
        return digest({"sampled": self.right.identity(), "sample": encode(self.sample)})

    def load(self, runs_dir: Path | None) -> nn.Module:
        """The trained network."""
        return self.right.load(runs_dir)

    def open(self, around: Surroundings) -> Source:
        """The network at work."""
        return self.right.open(around._replace(sample=self.sample))
