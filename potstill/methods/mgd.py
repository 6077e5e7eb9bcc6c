"""Masked generative distillation.

Zhendong Yang, Zhe Li, Mingqi Shao, Dachuan Shi, Zehuan Yuan, Chun Yuan: Masked Generative Distillation. ECCV 2022,
arXiv:2205.01529.

Errata: the paper masks positions, which its code does for detection only; for classification whole channels are masked,
each with probability 0.15, and what is left is not scaled up. The weight of 0.00007 belongs to the sum over channels
and positions.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import Pointwise
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import expect_pairs, expect_same_shape, map_pairs, match_size
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def mgd_loss(generated: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"]) -> Float[Tensor, ""]:
    """Sum over channels and positions of (generated − teacher)², mean over the batch.

    Args:
        generated: What was made of the student's masked map.
        teacher: The teacher's map, detached here.

    Raises:
        UserError: the maps are of unlike shape.
    """
    expect_same_shape(generated, teacher)
    return (precise(generated) - precise(teacher.detach())).square().flatten(1).sum(1).mean()


class _Generator(nn.Module):
    """Makes the teacher's whole map from a part of the student's channels."""

    def __init__(self, align: nn.Module, channels: int, masked: float):
        super().__init__()
        self.align = align
        self.generate = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self._masked = masked

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the teacher's channels; the mask is drawn from the generator that each step seeds."""
        x = self.align(x)
        kept = torch.rand(*x.shape[:2], 1, 1, device=x.device) >= self._masked
        return self.generate(x * kept)


@dataclass(frozen=True, kw_only=True)
class MGD(Term):
    """Masked generation: the teacher's map is made from a part of the student's channels.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, one for each.
        masked: Probability with which a channel of an image is left out, in [0, 1).
    """

    weight: float = 7e-5
    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("stage3",)
    masked: float = 0.15

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Yang et al. 2022, arXiv:2205.01529"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if not 0 <= self.masked < 1:
            raise UserError(f"The share of masked channels is {self.masked:g}; expected a number from 0 to below 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair two 3×3 convolutions around a ReLU, behind a 1×1 where channels differ."""
        parts: list[nn.Module] = []
        for s, t in map_pairs(self, student, teacher):
            align = nn.Identity() if s.shape[1] == t.shape[1] else Pointwise().build(s, t)
            parts.append(_Generator(align, t.shape[1], self.masked))
        return nn.ModuleList(parts)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`mgd_loss` of each pair, the larger map pooled before anything is generated, added."""
        assert isinstance(learned, nn.ModuleList)
        pairs = [match_size(s, t) for s, t in map_pairs(self, student, teacher)]
        losses = [mgd_loss(generator(s), t) for generator, (s, t) in zip(learned, pairs, strict=True)]
        return torch.stack(losses).sum()
