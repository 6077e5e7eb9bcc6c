"""Neuron selectivity transfer.

Zehao Huang, Naiyan Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. 2017,
arXiv:1707.01219, with the polynomial kernel (d = 2, c = 0).

Errata: the authors' code leaves out the teacher's part, which is constant, so its values are lower and its gradients
the same. The weight of 50 is theirs for one layer on ImageNet, and later tables' for all layers. Versions that
broadcast run out of memory; products of unit rows give the same.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.gram import precise, selectivity_gap, unit
from potstill.maps import expect_pairs, expect_same_size, map_pairs, match_size
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def nst_loss(student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"]) -> Float[Tensor, ""]:
    """Mean (s·s′)² + mean (t·t′)² − 2 · mean (s·t)² over pairs of unit-norm channels, mean over the batch.

    Args:
        student: A map of the student.
        teacher: A map of the teacher of equal height and width, detached here.

    Raises:
        UserError: the maps are of unlike size.
    """
    expect_same_size(student, teacher)
    s, t = (unit(precise(x).flatten(2)) for x in (student, teacher.detach()))
    return selectivity_gap(s, t)


@dataclass(frozen=True, kw_only=True)
class NST(Term):
    """Neuron selectivity transfer: the student's channels are selective where the teacher's are.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, one for each.
    """

    weight: float = 50.0
    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stage1", "stage2", "stage3")

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Huang, Wang 2017, arXiv:1707.01219"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> None:
        """Nothing is learned; refuses vectors."""
        map_pairs(self, student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`nst_loss` of each pair, the larger map pooled, added."""
        losses = [nst_loss(*match_size(s, t)) for s, t in map_pairs(self, student, teacher)]
        return torch.stack(losses).sum()
