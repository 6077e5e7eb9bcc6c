"""Flow of solution procedure.

Junho Yim, Donggyu Joo, Jihoon Bae, Junmo Kim: A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning. CVPR 2017.

Errata: it is a stage of initialisation, without labels; learning from labels follows. Tables that list a weight of 50
copy a flag that multiplied nothing. The paper adds squared differences up over a matrix; the numbers of later tables
come from the mean over all elements.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.gram import precise, products
from potstill.maps import expect_pairs, expect_same_channels, match_size, student_maps, teacher_maps
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

Pair = tuple[Float[Tensor, "n _ _ _"], Float[Tensor, "n _ _ _"]]


def fsp_loss(student_pair: Pair, teacher_pair: Pair) -> Float[Tensor, ""]:
    """Mean over all elements of (G_student − G_teacher)², with G = bottom · topᵀ / (HW) of two maps.

    Args:
        student_pair: A lower and a higher map of the student, of equal height and width.
        teacher_pair: The same of the teacher, with as many channels each, detached here; of any height and width.

    Raises:
        UserError: the maps of a pair are of unlike size, or channels differ.
    """
    ours, theirs = _flow(*student_pair), _flow(*(x.detach() for x in teacher_pair))
    if ours.shape != theirs.shape:
        raise UserError(
            f"The student's pair has {ours.shape[1]} and {ours.shape[2]} channels and the teacher's {theirs.shape[1]} "
            f"and {theirs.shape[2]}; expected the same: choose layers of equal width."
        )
    return (ours - theirs).square().mean()


def _flow(bottom: Tensor, top: Tensor) -> Tensor:
    if bottom.shape[2:] != top.shape[2:]:
        raise UserError(
            f"The two maps of a pair are {tuple(bottom.shape[2:])} and {tuple(top.shape[2:])} in size; expected equal "
            "heights and widths: pool the larger one (potstill.connect.match_size)."
        )
    return products(precise(bottom).flatten(2), precise(top).flatten(2)) / bottom[0, 0].numel()


@dataclass(frozen=True, kw_only=True)
class FSP(Term):
    """Flow of solution: how a map follows from the one before it, as the products of their channels.

    Attributes:
        student: Maps of the student in order; each is paired with the next.
        teacher: Maps of the teacher of equal width, one for each.
    """

    student: tuple[str, ...] = ("stem", "stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stem", "stage1", "stage2", "stage3")

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Yim et al. 2017, CVPR"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if len(self.student) < 2:
            raise UserError(f"The term {self.key!r} was given one tap of each network; expected at least two.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> None:
        """Nothing is learned; refuses vectors, and layers of unlike width."""
        expect_same_channels(self, student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`fsp_loss` of each map with the next, the larger one pooled, added."""
        flows = zip(pairwise(student_maps(self, student)), pairwise(teacher_maps(self, teacher)), strict=True)
        losses = [fsp_loss(match_size(*ours), match_size(*theirs)) for ours, theirs in flows]
        return torch.stack(losses).sum()
