"""Show, attend and distill.

Mingi Ji, Byeongho Heo, Sungrae Park: Show, Attend and Distill: Knowledge Distillation via Attention-based Feature
Matching. AAAI 2021, arXiv:2102.02973.

Errata: another method of the same initials, attention feature distillation, stands in some collections. The weight of
200 comes with soft targets of weight 0.9 (T 4), and with the maps behind every residual block of both networks; the
default here is one map per stage. The authors bring the student's mean squares to the teacher's size, larger or
smaller; here the larger map is pooled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise, products, unit
from potstill.maps import as_vector, expect_same_size, expect_taps, match_size, student_maps, teacher_maps
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def afd_loss(
    student: Sequence[Float[Tensor, "n _ _ _"]], teacher: Float[Tensor, "n c h w"], attention: Float[Tensor, "n s"]
) -> Float[Tensor, ""]:
    """Σ_s attention[n, s] · mean over positions of (v_s − v_t)²[n], mean over the batch, of one layer of the teacher.

    v is the mean square over channels, flattened and of unit length.

    Args:
        student: Maps of the student, all of the teacher's height and width.
        teacher: One map of the teacher, detached here.
        attention: How much it heeds each of them, for each image: learned on both sides, so not detached.

    Raises:
        UserError: maps are of unlike size.
    """
    for s in student:
        expect_same_size(s, teacher)
    target = _value(teacher.detach())
    distances = torch.stack([(_value(s) - target).square().mean(1) for s in student], dim=1)
    return (attention * distances).sum(1).mean()


def _value(x: Tensor) -> Tensor:
    return unit(precise(x).square().mean(1).flatten(1))


def _embed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))


class _Links(nn.Module):
    """Attention of the teacher's layers (queries) to the student's (keys), from their pooled channels."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], width: int):
        super().__init__()
        self.queries = nn.ModuleList(_embed(channels, width) for channels in teacher)
        self.keys = nn.ModuleList(_embed(channels, width) for channels in student)
        # A bilinear form for each layer of the teacher, all in one layer.
        self.bilinear = _embed(width, width * len(teacher))
        self.query_places = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(teacher), width)))
        self.key_places = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(student), width)))
        self._root = math.sqrt(width)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """(N, layers of the teacher, layers of the student); it sums to 1 over the latter."""
        keys = [F.relu(part(as_vector(x))) for part, x in zip(self.keys, student, strict=True)]
        forms = self.bilinear(torch.stack(keys, dim=1).flatten(0, 1))
        forms = forms.view(len(keys[0]), len(keys), len(teacher), -1).transpose(1, 2)
        queries = [part(as_vector(x)) for part, x in zip(self.queries, teacher, strict=True)]
        scores = products(forms, torch.stack(queries, dim=1).unsqueeze(2)).squeeze(3)
        return ((scores + products(self.query_places, self.key_places)) / self._root).softmax(2)


@dataclass(frozen=True, kw_only=True)
class AFD(Term):
    """Show, attend and distill: each layer of the teacher learns which of the student's layers to teach.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, of any number.
        width: Of queries and keys.
    """

    weight: float = 200.0
    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stage1", "stage2", "stage3")
    width: int = 128

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Ji, Heo, Park 2021, arXiv:2102.02973"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_taps(self)
        if self.width < 1:
            raise UserError(f"The width of {self.key!r} is {self.width}; expected a whole number ≥ 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """Queries of the teacher's layers, keys of the student's, and the bilinear forms between them."""
        ours = [x.shape[1] for x in student_maps(self, student)]
        theirs = [x.shape[1] for x in teacher_maps(self, teacher)]
        return _Links(ours, theirs, self.width)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`afd_loss` of each layer of the teacher, added; of two unlike sizes the larger map is pooled."""
        assert learned is not None
        ours, theirs = student_maps(self, student), teacher_maps(self, teacher)
        attention = learned(ours, theirs)
        losses = [
            afd_loss([sized[0]], sized[1], attention[:, place, layer : layer + 1])
            for place, t in enumerate(theirs)
            for layer, sized in enumerate(match_size(s, t) for s in ours)
        ]
        return torch.stack(losses).sum()
