"""Attention transfer.

Sergey Zagoruyko, Nikos Komodakis: Paying More Attention to Attention: Improving the Performance of Convolutional Neural
Networks via Attention Transfer. ICLR 2017, arXiv:1612.03928.

Errata: the paper writes the norm of the difference of two unit-norm maps; the authors' code, and the weights of all
tables, take the mean of squared differences, so the loss shrinks as maps grow. Code that raises activations to an odd
power without their modulus computes something else.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.gram import precise, unit
from potstill.maps import expect_pairs, expect_same_size, map_pairs, match_size
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def attention_loss(
    student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"], *, p: float = 2
) -> Float[Tensor, ""]:
    """Mean over all elements of (Q_student − Q_teacher)², with Q the flattened mean over channels of |F|^p, unit-norm.

    Args:
        student: A map of the student.
        teacher: A map of the teacher of equal height and width, detached here.
        p: Power of the activations, ≥ 1.

    Raises:
        UserError: the maps are of unlike size.
    """
    expect_same_size(student, teacher)
    return (_attention(student, p) - _attention(teacher.detach(), p)).square().mean()


def _attention(features: Tensor, p: float) -> Tensor:
    wide = precise(features)
    powers = wide.square() if p == 2 else wide.abs().pow(p)
    return unit(powers.mean(1).flatten(1))


@dataclass(frozen=True, kw_only=True)
class Attention(Term):
    """Attention transfer: the student looks where the teacher looks.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, one for each.
        p: Power of the activations, ≥ 1.
    """

    weight: float = 1000.0
    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stage1", "stage2", "stage3")
    p: float = 2.0

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Zagoruyko, Komodakis 2017, arXiv:1612.03928"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if not 1 <= self.p < float("inf"):
            raise UserError(f"The power p of {self.key!r} is {self.p:g}; expected a number ≥ 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> None:
        """Nothing is learned; refuses vectors."""
        map_pairs(self, student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`attention_loss` of each pair, the larger map pooled, added."""
        pairs = map_pairs(self, student, teacher)
        losses = [attention_loss(*match_size(s, t), p=self.p) for s, t in pairs]
        return torch.stack(losses).sum()
