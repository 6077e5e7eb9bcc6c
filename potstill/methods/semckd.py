"""Cross-layer distillation with semantic calibration.

Defang Chen, Jian-Ping Mei, Yuan Zhang, Can Wang, Zhe Wang, Yan Feng, Chun Chen: Cross-Layer Distillation with Semantic
Calibration. AAAI 2021, arXiv:2012.03236 (an extended version, by six of them).

Errata: attention is read off each layer's N × N similarity by linear layers over N, so the authors' code trains on full
batches only. Here a short batch is one whose missing images are unlike all others (similarity 0), and a longer one, as
in validation, is cut into parts of N. The weight of 400 comes with soft targets of weight 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.connect import embedding
from potstill.errors import UserError
from potstill.gram import precise, products, rows
from potstill.maps import expect_same_shape, expect_taps, match_size, student_maps, teacher_maps
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

Table = Sequence[Sequence[Float[Tensor, "n _ _ _"]]]


def semckd_loss(projected: Table, targets: Table, attention: Float[Tensor, "n i j"]) -> Float[Tensor, ""]:
    """Σ_i Σ_j attention_nij · mean of (projected_ij − targets_ij)² of n, ÷ layers i, mean over the batch.

    Args:
        projected: Maps of the student: `[i][j]` is layer i as it is compared with layer j of the teacher.
        targets: The teacher's, of the same shapes, detached here.
        attention: How much layer i heeds layer j, for each image: learned on both sides, so not detached.

    Raises:
        UserError: shapes are unlike.
    """
    total = attention.new_zeros(len(attention), dtype=torch.promote_types(attention.dtype, torch.float32))
    for i, row in enumerate(projected):
        for j, s in enumerate(row):
            expect_same_shape(s, targets[i][j])
            difference = precise(s) - precise(targets[i][j].detach())
            total = total + attention[:, i, j] * difference.square().flatten(1).mean(1)
    return total.mean() / len(projected)


class _Calibration(nn.Module):
    """Projectors for all pairs, and what reads attention off similarities."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], batch_size: int, share: int):
        super().__init__()
        width = max(batch_size // share, 1)
        self.batch_size = batch_size
        self.queries = nn.ModuleList(embedding(batch_size, width, hidden=True, unit=True) for _ in student)
        self.keys = nn.ModuleList(embedding(batch_size, width, hidden=True, unit=True) for _ in teacher)
        self.projectors = nn.ModuleList(nn.ModuleList(_projector(s, t) for t in teacher) for s in student)

    def attention(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """(N, layers of the student, layers of the teacher); it sums to 1 over the latter."""
        queries = torch.stack([self._read(part, x) for part, x in zip(self.queries, student, strict=True)], dim=1)
        keys = torch.stack([self._read(part, x) for part, x in zip(self.keys, teacher, strict=True)], dim=1)
        return products(queries, keys).softmax(2)

    def _read(self, part: nn.Module, x: Tensor) -> Tensor:
        parts: list[Tensor] = []
        flat = rows(x)
        for start in range(0, len(flat), self.batch_size):
            features = flat[start : start + self.batch_size]
            similarity = products(features, features)
            parts.append(part(F.pad(similarity, (0, self.batch_size - len(features)))))
        return torch.cat(parts)

    def forward(self, i: int, j: int, x: Tensor) -> Tensor:
        """Layer i of the student, (N, C, H, W), in the channels of layer j of the teacher."""
        row = self.projectors[i]
        assert isinstance(row, nn.ModuleList)
        return row[j](x)


def _projector(inputs: int, outputs: int) -> nn.Sequential:
    mid = 2 * outputs
    return nn.Sequential(
        nn.Conv2d(inputs, mid, 1, bias=False),
        nn.BatchNorm2d(mid),
        nn.ReLU(),
        nn.Conv2d(mid, mid, 3, padding=1, bias=False),
        nn.BatchNorm2d(mid),
        nn.ReLU(),
        nn.Conv2d(mid, outputs, 1, bias=False),
    )


@dataclass(frozen=True, kw_only=True)
class SemCKD(Term):
    """Semantic calibration: each layer of the student learns which of the teacher's layers to follow.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, of any number.
        share: The width of the attention is the batch size divided by it.
    """

    weight: float = 400.0
    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stage1", "stage2", "stage3")
    share: int = 4

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Chen et al. 2021, arXiv:2012.03236"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_taps(self)
        if self.share < 1:
            raise UserError(f"The share of {self.key!r} is {self.share}; expected a whole number ≥ 1.")
        if self.only_right:
            raise UserError(
                f"{self.key!r} was given only_right, but its attention reads how an image resembles every other one of "
                "a whole batch; leave only_right out, or take another method."
            )

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """Projectors for all pairs of layers, and an embedding of each layer's similarities on either side."""
        ours = [x.shape[1] for x in student_maps(self, student)]
        theirs = [x.shape[1] for x in teacher_maps(self, teacher)]
        return _Calibration(ours, theirs, plan.batch_size, self.share)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`semckd_loss` over all pairs of layers, the larger map of each pooled."""
        assert isinstance(learned, _Calibration)
        ours, theirs = student_maps(self, student), teacher_maps(self, teacher)
        projected: list[list[Tensor]] = []
        targets: list[list[Tensor]] = []
        for i, s in enumerate(ours):
            sized = [match_size(s, t) for t in theirs]
            projected.append([learned(i, j, x) for j, (x, _) in enumerate(sized)])
            targets.append([t for _, t in sized])
        return semckd_loss(projected, targets, learned.attention(ours, theirs))
