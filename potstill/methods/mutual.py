"""Deep mutual learning.

Ying Zhang, Tao Xiang, Timothy M. Hospedales, Huchuan Lu: Deep Mutual Learning. CVPR 2018, arXiv:1706.00384.

Networks that learn together are each other's teachers, with weight 1 beside 1 for the labels.

Errata: peers are detached, each network minimises its own loss; one popular library compares raw outputs by their
squares and lets the gradient into the peers.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_temperature, softened_kl
from potstill.several import expect_members
from potstill.term import Knowledge, Mode, Plan, Progress, Term
from potstill.types import Batch, Trace


def mutual_loss(
    student: Float[Tensor, "n k"], peers: Float[Tensor, "m n k"], *, temperature: float = 1.0
) -> Float[Tensor, ""]:
    """T² · KL(softmax(peer/T) ‖ softmax(student/T)): mean over peers, summed over classes, mean over the batch.

    Args:
        student: Logits of one network.
        peers: Logits of the others, detached here.
        temperature: T > 0.
    """
    return torch.stack([softened_kl(student, peer, temperature=temperature) for peer in peers]).mean()


@dataclass(frozen=True, kw_only=True)
class Mutual(Term):
    """Deep mutual learning: each network matches what every other one says.

    For runs whose teacher is `Peers`. Beside it belong the labels: `Labels()`.

    Attributes:
        temperature: T > 0.
    """

    temperature: float = 1.0

    knowledge: ClassVar[Knowledge] = "response"
    modes: ClassVar[tuple[Mode, ...]] = ("online",)
    citation: ClassVar[str] = "Zhang et al. 2018, arXiv:1706.00384"
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> None:
        """Nothing is learned; a teacher that is not several is refused."""
        expect_members(self, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`mutual_loss` of one network's logits and the others'."""
        peers = torch.stack([member.logits for member in expect_members(self, teacher)])
        return mutual_loss(student.logits, peers, temperature=self.temperature)
