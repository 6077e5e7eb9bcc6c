"""Probabilistic knowledge transfer: the student keeps, for every image, which others the teacher finds near it.

Nikolaos Passalis, Anastasios Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer. ECCV 2018,
arXiv:1803.10837, with the cosine kernel. It learns nothing beside the student, and costs one N × N product on each
side.

Errata: the authors' code takes the mean of the divergence over all N² pairs, not its sum, and the published weight
30000 belongs to that. Its clean-up of NaN writes in place and never fires.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.gram import products, row_pairs, rows, unit
from potstill.maps import expect_pairs
from potstill.term import Knowledge, Progress, Term
from potstill.types import Batch, Trace


def pkt_loss(
    student: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."], *, eps: float = 1e-7
) -> Float[Tensor, ""]:
    """The mean over all N² pairs of p_t · log((p_t + eps) / (p_s + eps)).

    p(j | i) is (1 + cos(x_i, x_j)) / 2 divided by its sum over j, the image itself included.

    Args:
        student: One activation per image.
        teacher: One per image, of whatever width; detached here.
        eps: Added inside the logarithm, > 0.
    """
    p_s, p_t = _nearness(student), _nearness(teacher.detach())
    return (p_t * ((p_t + eps).log() - (p_s + eps).log())).mean()


def _nearness(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    points = unit(rows(x))
    # Opposite rows may come out below −1 by rounding.
    kernel = (products(points, points) + 1).clamp_min(0) / 2
    return kernel / kernel.sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class PKT(Term):
    """The student's conditional probabilities of one image given another become the teacher's.

    Attributes:
        eps: Added inside the logarithm, > 0.
        student: The student's activations; the authors compare the pooled features.
        teacher: The teacher's, one for each of the student's; widths may differ.
    """

    weight: float = 30000.0
    eps: float = 1e-7
    student: tuple[str, ...] = ("pooled",)
    teacher: tuple[str, ...] = ("pooled",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Passalis, Tefas 2018, arXiv:1803.10837"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if not 0 < self.eps < 1:
            raise UserError(f"The eps of {self.key!r} is {self.eps:g}; expected a small number > 0, such as 1e-7.")

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`pkt_loss`, summed over the pairs."""
        return torch.stack([pkt_loss(s, t, eps=self.eps) for s, t in row_pairs(self, student, teacher)]).sum()
