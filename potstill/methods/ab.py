"""Activation boundaries.

Byeongho Heo, Minsik Lee, Sangdoo Yun, Jin Young Choi: Knowledge Transfer via Distillation of Activation Boundaries
Formed by Hidden Neurons. AAAI 2019, arXiv:1811.03233.

Errata: it is a stage of initialisation, without labels; learning from labels follows. Weights in tables that add it to
labels copy a flag that multiplied nothing. The factor 3/1000 and the halving from layer to layer are the authors' for
three layers of small images; with four layers of large ones they take 1/1000. They keep the teacher's batch norm in
training mode; here a teacher is always in evaluation mode.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import Identity, Pointwise, connected, normal_start
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import expect_pairs, expect_same_shape, map_pairs
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def ab_loss(
    student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"], *, margin: float = 1.0
) -> Float[Tensor, ""]:
    """(s + m)² where t ≤ 0 and s > −m, (s − m)² where t > 0 and s ≤ m; sum per image, mean over the batch.

    Args:
        student: The student's map from before a ReLU, behind its connector.
        teacher: The teacher's from before a ReLU, detached here; only its signs count.
        margin: m ≥ 0: how far on the right side of 0 the student shall be.

    Raises:
        UserError: the maps are of unlike shape.
    """
    expect_same_shape(student, teacher)
    s, active = precise(student), teacher.detach() > 0
    missing = (margin - s).clamp_min(0).where(active, (s + margin).clamp_min(0))
    return missing.square().flatten(1).sum(1).mean()


@dataclass(frozen=True, kw_only=True)
class AB(Term):
    """Activation boundaries: the student's neurons are active where the teacher's are.

    Attributes:
        student: Inputs of ReLUs, from the lowest to the highest.
        teacher: Inputs of ReLUs, one for each.
        margin: How far on the right side of 0 the student shall be, ≥ 0.
    """

    student: tuple[str, ...] = ("stage1.pre", "stage2.pre", "stage3.pre")
    teacher: tuple[str, ...] = ("stage1.pre", "stage2.pre", "stage3.pre")
    margin: float = 1.0

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Heo et al. 2019, arXiv:1811.03233"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if not 0 <= self.margin < float("inf"):
            raise UserError(f"The margin of {self.key!r} is {self.margin:g}; expected a number ≥ 0.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair a 1×1 convolution with batch norm; nothing where the channels agree, as the authors have it."""
        pairs = map_pairs(self, student, teacher)
        kinds = [Identity() if s.shape[1] == t.shape[1] else Pointwise(norm=True) for s, t in pairs]
        return nn.ModuleList(normal_start(kind.build(s, t)) for kind, (s, t) in zip(kinds, pairs, strict=True))

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """3/1000 of `ab_loss` of each pair, the larger map pooled; each counts half as much as the one above it."""
        pairs = connected(self, learned, student, teacher)
        losses = [
            ab_loss(s, t, margin=self.margin) * 0.003 * 0.5 ** (len(pairs) - 1 - place)
            for place, (s, t) in enumerate(pairs)
        ]
        return torch.stack(losses).sum()
