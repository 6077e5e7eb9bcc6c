"""Variational information distillation.

Sungsoo Ahn, Shell Xu Hu, Andreas Damianou, Neil D. Lawrence, Zhenwen Dai: Variational Information Distillation for
Knowledge Transfer. CVPR 2019, arXiv:1904.05835.

Errata: the paper adds up over channels and positions and leaves out constants; the published weight of 1 belongs to the
mean over all. The variance is learned: implementations that keep its parameters in a plain list never train it, and
log(1 + exp a) written out overflows. The loss may be negative.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import expect_pairs, expect_same_shape, map_pairs, match_size
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

FLOOR = 1e-5
"""Least variance."""


def vid_loss(
    mean: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"], variance: Float[Tensor, " v"]
) -> Float[Tensor, ""]:
    """Mean over all elements of ½·log σ² + (teacher − mean)² / (2σ²): what a Gaussian guess fails to tell.

    Args:
        mean: The guess of the teacher's map, from the student's.
        teacher: The teacher's map, detached here.
        variance: σ² of each channel, (C,), > 0.

    Raises:
        UserError: the maps are of unlike shape, or the variances are not one per channel.
    """
    expect_same_shape(mean, teacher)
    if len(variance) != mean.shape[1]:
        raise UserError(f"There are {len(variance)} variances for {mean.shape[1]} channels; expected one each.")
    spread = precise(variance)[:, None, None]
    return 0.5 * (spread.log() + (precise(teacher.detach()) - precise(mean)).square() / spread).mean()


class _Guess(nn.Module):
    """Mean and variance of the teacher's map, guessed from the student's."""

    def __init__(self, inputs: int, outputs: int, variance: float):
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
        )
        self.spread = nn.Parameter(torch.full((outputs,), math.log(math.expm1(variance - FLOOR))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs, H, W) to the mean (N, outputs, H, W) and the variance (outputs,)."""
        return self.mean(x), F.softplus(self.spread) + FLOOR


@dataclass(frozen=True, kw_only=True)
class VID(Term):
    """Variational information distillation: the student's map tells as much as it can about the teacher's.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, one for each.
        variance: σ² at the start, > 1e-5.
    """

    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stage1", "stage2", "stage3")
    variance: float = 5.0

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Ahn et al. 2019, arXiv:1904.05835"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if not FLOOR < self.variance < 100:
            raise UserError(
                f"The variance of {self.key!r} is {self.variance:g}; expected a number from {FLOOR} to 100."
            )

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair three 1×1 convolutions that guess the mean, and a variance for each channel."""
        pairs = map_pairs(self, student, teacher)
        return nn.ModuleList(_Guess(s.shape[1], t.shape[1], self.variance) for s, t in pairs)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`vid_loss` of each pair, the larger map pooled before anything is guessed, added."""
        assert isinstance(learned, nn.ModuleList)
        losses: list[Tensor] = []
        for guess, (s, t) in zip(learned, map_pairs(self, student, teacher), strict=True):
            s, t = match_size(s, t)
            mean, variance = guess(s)
            losses.append(vid_loss(mean, t, variance))
        return torch.stack(losses).sum()
