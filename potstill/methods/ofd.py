"""A comprehensive overhaul of feature distillation.

Byeongho Heo, Jeesoo Kim, Sangdoo Yun, Hyojin Park, Nojun Kwak, Jin Young Choi: A Comprehensive Overhaul of Feature
Distillation. ICCV 2019, arXiv:1904.01866.

Errata: the authors keep the teacher's batch norm in training mode on purpose; here a teacher is always in evaluation
mode. Their margin divides by γ, which may be 0; here the margin is min(β, 0) then. The weight of 0.001 is theirs for
small images; for ImageNet it is 0.0001. A map below another counts half as much as that one.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import Pointwise, normal_start
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import expect_pairs, expect_same_shape, map_pairs, match_size, teacher_maps
from potstill.places import norm_before
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def ofd_loss(
    connected: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"], margin: Float[Tensor, " m"]
) -> Float[Tensor, ""]:
    """With t = max(teacher, margin): 0 where connected ≤ t ≤ 0, else (t − connected)²; sum per image, mean over them.

    Args:
        connected: The student's map from before a ReLU, behind its connector.
        teacher: The teacher's from before a ReLU, detached here.
        margin: The least target of each channel, (C,), negative (`margins`).

    Raises:
        UserError: the maps are of unlike shape, or the margins are not one per channel.
    """
    expect_same_shape(connected, teacher)
    if len(margin) != connected.shape[1]:
        raise UserError(f"There are {len(margin)} margins for {connected.shape[1]} channels; expected one each.")
    s = precise(connected)
    target = torch.maximum(precise(teacher.detach()), precise(margin.detach())[:, None, None])
    counts = (s > target) | (target > 0)
    return (target - s).square().masked_fill(~counts, 0).flatten(1).sum(1).mean()


def margins(mean: Float[Tensor, " c"], deviation: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    """E[x | x < 0] of a Gaussian for each channel: μ − σ·φ(μ/σ)/Φ(−μ/σ); −3σ where Φ(−μ/σ) ≤ 0.001.

    Args:
        mean: β of a batch norm.
        deviation: |γ| of it; where it is 0 the output is β always, and the margin min(β, 0).
    """
    mean, deviation = mean.detach().double(), deviation.detach().double().abs()
    ratio = mean / deviation.masked_fill(deviation == 0, 1)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    negative = torch.erfc(ratio / math.sqrt(2)) / 2
    found = torch.where(negative > 1e-3, mean - deviation * density / negative.clamp_min(1e-3), -3 * deviation)
    return torch.where(deviation == 0, mean.clamp_max(0), found).float()


class _Joint(nn.Module):
    """A connector, and the margin of the layer that it leads to."""

    margin: Tensor

    def __init__(self, connector: nn.Module, margin: Tensor):
        super().__init__()
        self.connector = connector
        # It follows from the teacher, so no checkpoint holds it.
        self.register_buffer("margin", margin, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the teacher's channels."""
        return self.connector(x)


@dataclass(frozen=True, kw_only=True)
class OFD(Term):
    """The overhaul: maps from before the ReLU, of which the teacher's clearly negative part need not be met.

    Attributes:
        student: Inputs of ReLUs, from the lowest to the highest.
        teacher: Inputs of ReLUs behind a batch norm, one for each.
    """

    weight: float = 1e-3
    student: tuple[str, ...] = ("stage1.pre", "stage2.pre", "stage3.pre")
    teacher: tuple[str, ...] = ("stage1.pre", "stage2.pre", "stage3.pre")

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Heo et al. 2019, arXiv:1904.01866"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair a 1×1 convolution with batch norm; the margins are taken from the teacher, once."""
        if plan.teacher is None:
            raise UserError(f"The term {self.key!r} reads batch norms of a teacher network; give it a network.")
        widths = [t.shape[1] for t in teacher_maps(self, teacher)]
        norms = [norm_before(plan.teacher, tap, width) for tap, width in zip(self.teacher, widths, strict=True)]
        pairs = zip(map_pairs(self, student, teacher), norms, strict=True)
        return nn.ModuleList(
            _Joint(normal_start(Pointwise(norm=True).build(s, t)), margins(norm.bias, norm.weight))
            for (s, t), norm in pairs
        )

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`ofd_loss` of each pair, the larger map pooled; the highest counts in full, each below it half as much."""
        assert isinstance(learned, nn.ModuleList)
        pairs = list(zip(learned, map_pairs(self, student, teacher), strict=True))
        losses = [
            ofd_loss(*match_size(joint(s), t), cast(_Joint, joint).margin) * 0.5 ** (len(pairs) - 1 - place)
            for place, (joint, (s, t)) in enumerate(pairs)
        ]
        return torch.stack(losses).sum()
