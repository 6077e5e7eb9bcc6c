"""A teacher of so many classes that a few of them, drawn, stand for its answer."""

from dataclasses import dataclass

from potstill.codec import digest, encode
from potstill.errors import UserError
from potstill.store.sampling import Sample
from potstill.teachers.source import Source
from potstill.teachers.teacher import Derived, Surroundings


@dataclass(frozen=True, kw_only=True)
class Sampled(Derived):
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

    draws: int = 64
    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        Sample(self.draws, self.temperature)  # It refuses what is none.
        if not self.right.single or self.right.sample is not None:
            raise UserError(
                "Classes are drawn from what one trained network says; give Sampled such a teacher, and not several."
            )

    @property
    def sample(self) -> Sample:
        """As given."""
        return Sample(self.draws, self.temperature)

    def identity(self) -> str:
        """The hash of the right one's and of how classes are drawn."""
        return digest({"sampled": self.right.identity(), "sample": encode(self.sample)})

    def open(self, around: Surroundings) -> Source:
        """The network at work."""
        return self.right.open(around._replace(sample=self.sample))
