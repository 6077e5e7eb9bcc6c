"""Similarity-preserving distillation: images that look alike to the teacher shall look alike to the student.

Frederick Tung, Greg Mori: Similarity-Preserving Knowledge Distillation. ICCV 2019, arXiv:1907.09682. It learns
nothing beside the student, and costs one N × N product of flattened maps on each side.

Errata: the unit norm is that of the rows of G, not of the maps: IRG and the Gram form of CC divide elsewhere, so their
weights cannot be exchanged with this one's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.gram import products, row_pairs, rows, unit
from potstill.maps import expect_pairs
from potstill.term import Knowledge, Progress, Term
from potstill.types import Batch, Trace


def similarity_loss(student: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """‖G_s − G_t‖²_F / N², where G = F·Fᵀ over the flattened activations F and each row of G has unit norm.

    Args:
        student: One activation of any shape per image.
        teacher: One per image, of whatever shape; detached here.
    """
    return (_similarities(student) - _similarities(teacher.detach())).square().mean()


def _similarities(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    points = rows(x)
    return unit(products(points, points))


@dataclass(frozen=True, kw_only=True)
class Similarity(Term):
    """The student's matrix of similarities between the images of a batch becomes the teacher's.

    Attributes:
        student: The student's activations; the authors compare the last map.
        teacher: The teacher's, one for each of the student's; shapes may differ.
    """

    weight: float = 3000.0
    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("stage3",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Tung, Mori 2019, arXiv:1907.09682"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`similarity_loss`, summed over the pairs."""
        return torch.stack([similarity_loss(s, t) for s, t in row_pairs(self, student, teacher)]).sum()
