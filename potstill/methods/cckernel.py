"""Correlation congruence with a kernel: the pairwise correlations of a batch under a Taylor-expanded Gaussian kernel.

Baoyun Peng, Xiao Jin, Jiaheng Liu, Dongsheng Li, Yichao Wu, Yu Liu, Shunfeng Zhou, Zhaoning Zhang: Correlation
Congruence for Knowledge Distillation. ICCV 2019, arXiv:1904.01802. It learns nothing beside the student, and
costs one N × N product on each side.

Errata: this is the paper's form. The short form that the authors' published tables stand on is `correlation`; its
weight .02, the default here for want of another, is of another scale and cannot be exchanged with this one's.
"""

import math
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


def correlation_kernel_loss(
    student: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."], *, gamma: float = 0.4, order: int = 2
) -> Float[Tensor, ""]:
    """The mean over all N² pairs of (k_s − k_t)², k = Σ_{p ≤ order} e^(−2γ) · (2γ)^p / p! · (x_i · x_j)^p.

    With unit-norm rows that is exp(−γ·‖x_i − x_j‖²), its Taylor series cut after `order`.

    Args:
        student: One activation per image.
        teacher: One per image, of whatever width; detached here.
        gamma: γ > 0 of the Gaussian kernel.
        order: The highest power, ≥ 1.
    """
    difference = _kernel(student, gamma, order) - _kernel(teacher.detach(), gamma, order)
    return difference.square().mean()


def _kernel(x: Float[Tensor, "n ..."], gamma: float, order: int) -> Float[Tensor, "n n"]:
    points = unit(rows(x))
    product = products(points, points)
    # Horner's scheme: no power of the matrix is kept beside the one at hand.
    series = torch.ones_like(product)
    for power in range(order, 0, -1):
        series = 1 + product * (2 * gamma / power) * series
    return math.exp(-2 * gamma) * series


@dataclass(frozen=True, kw_only=True)
class CCKernel(Term):
    """The student's kernel matrix over the images of a batch becomes the teacher's.

    Attributes:
        gamma: γ > 0 of the Gaussian kernel.
        order: The highest power of its Taylor series, ≥ 1.
        student: The student's activations.
        teacher: The teacher's, one for each of the student's; widths may differ.
    """

    weight: float = 0.02
    gamma: float = 0.4
    order: int = 2
    student: tuple[str, ...] = ("pooled",)
    teacher: tuple[str, ...] = ("pooled",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Peng et al. 2019, arXiv:1904.01802"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if not 0 < self.gamma < float("inf"):
            raise UserError(f"The gamma of {self.key!r} is {self.gamma:g}; expected a number > 0, such as 0.4.")
        if self.order < 1:
            raise UserError(f"The order of {self.key!r} is {self.order}; expected a whole number ≥ 1.")

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`correlation_kernel_loss`, summed over the pairs."""
        pairs = row_pairs(self, student, teacher)
        losses = [correlation_kernel_loss(s, t, gamma=self.gamma, order=self.order) for s, t in pairs]
        return torch.stack(losses).sum()
