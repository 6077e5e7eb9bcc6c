"""Knowledge review.

Pengguang Chen, Shu Liu, Hengshuang Zhao, Jiaya Jia: Distilling Knowledge via Knowledge Review. CVPR 2021,
arXiv:2104.09044, its attention-based fusion and its hierarchical context loss.

Errata: the weights of the levels are the code's, which halves them from level to level and divides by their sum. The
teacher's maps are taken from before their ReLU, the student's from behind. Where a pair is of unlike sizes the authors
enlarge the student's fused map to the teacher's; here the larger of the two is pooled. Their code for small images runs
the teacher with gradients.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.gram import precise
from potstill.maps import as_map, expect_pairs, expect_same_shape, match_size
from potstill.term import Knowledge, Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Trace

LEVELS = (4, 2, 1)
"""Sizes to which maps are pooled, where they are larger."""

WIDEST = 512
"""Most channels in which maps are fused."""


def hcl_loss(student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"]) -> Float[Tensor, ""]:
    """Mean of squares at full size, then at 4×4, 2×2 and 1×1 below it, each counting half: their weighted mean.

    Args:
        student: The student's fused map.
        teacher: The teacher's map, detached here.

    Raises:
        UserError: the maps are of unlike shape.
    """
    expect_same_shape(student, teacher)
    s, t = precise(student), precise(teacher.detach())
    losses = [(s - t).square().mean()]
    losses += [
        (F.adaptive_avg_pool2d(s, level) - F.adaptive_avg_pool2d(t, level)).square().mean()
        for level in LEVELS
        if level < s.shape[2]
    ]
    weights = [0.5**place for place in range(len(losses))]
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)


class _Fusion(nn.Module):
    """Joins a map with what came down from deeper ones, and turns the sum into the teacher's channels."""

    def __init__(self, inputs: int, mid: int, outputs: int, *, deepest: bool):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(inputs, mid, 1, bias=False), nn.BatchNorm2d(mid))
        self.attend = None if deepest else nn.Conv2d(2 * mid, 2, 1)
        self.expand = nn.Sequential(nn.Conv2d(mid, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        for part in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(part.get_parameter("0.weight"), a=1)  # As the authors start it.

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The map for the teacher, (N, outputs, H, W), and what goes on to the next, (N, mid, H, W)."""
        x = self.reduce(x)
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            shares = torch.sigmoid(self.attend(torch.cat([x, deeper], dim=1)))
            x = x * shares[:, :1] + deeper * shares[:, 1:]
        return self.expand(x), x


@dataclass(frozen=True, kw_only=True)
class Review(Term):
    """Knowledge review: the student's deeper maps help its lower ones to match the teacher's.

    Attributes:
        student: Activations of the student, from the lowest to the deepest; a vector counts as a map of 1×1.
        teacher: Activations of the teacher, one for each.
    """

    weight: float = 5.0
    warmup: float = 20.0
    student: tuple[str, ...] = ("stage1", "stage2", "stage3", "pooled")
    teacher: tuple[str, ...] = ("stage1.pre", "stage2.pre", "stage3.pre", "pooled")

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Chen et al. 2021, arXiv:2104.09044"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """A fusion for each pair, in as many channels as the student's deepest map has, up to 512."""
        pairs = self._pairs(student, teacher)
        mid = min(WIDEST, pairs[-1][0].shape[1])
        last = len(pairs) - 1
        return nn.ModuleList(
            _Fusion(s.shape[1], mid, t.shape[1], deepest=place == last) for place, (s, t) in enumerate(pairs)
        )

    def _pairs(self, student: Trace, teacher: Trace | None) -> list[tuple[Tensor, Tensor]]:
        answer = expect_teacher(self, teacher)
        ours = [_as_map(student.taps[tap], f"The student's {tap!r}") for tap in self.student]
        theirs = [_as_map(answer.taps[tap], f"The teacher's {tap!r}") for tap in self.teacher]
        return list(zip(ours, theirs, strict=True))

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`hcl_loss` of each fused pair, from the deepest up, the larger map pooled, added."""
        assert isinstance(learned, nn.ModuleList)
        losses: list[Tensor] = []
        deeper: Tensor | None = None
        for fusion, (s, t) in reversed(list(zip(learned, self._pairs(student, teacher), strict=True))):
            fused, deeper = fusion(s, deeper)
            losses.append(hcl_loss(*match_size(fused, t)))
        return torch.stack(losses).sum()


def _as_map(x: Tensor, name: str) -> Tensor:
    return x[:, :, None, None] if x.dim() == 2 else as_map(x, name)
