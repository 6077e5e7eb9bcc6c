"""Networks that learn along with the student and teach one another."""

from dataclasses import dataclass
from typing import Literal, get_args

from potstill.codec import digest, encode
from potstill.errors import UserError, expect_all
from potstill.models import Network
from potstill.teachers.teacher import Teacher

Update = Literal["together", "in turn"]


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
        held = "networks: Network.given(module, classes) makes one of a module that you hold"
        expect_all(self.others, Network, "Peers were given", held)
        if not self.others:
            raise UserError("Peers were given no other network; name at least one.")
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
        """The hash of the others and of how all step."""
        return digest({"peers": [encode(network) for network in self.others], "update": self.update})
