"""Relational distillation: distances between images, and angles between triples of them, as the teacher sees them.

Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho: Relational Knowledge Distillation. CVPR 2019, arXiv:1904.05068, section 3.2.
It learns nothing beside the student; distances cost one N × N product on each side, angles N of them.

Errata: the sums of the paper are means over all N² and all N³ entries, trivial ones (i = j) included, in the authors'
code. The mean distance is over positive ones, and the gradient flows through it. The weights 25 and 50 are theirs for
CIFAR, where their code first scales features to unit norm (beside soft targets with T = 4); published tables have the
same weights without that, as here. For retrieval they have 1 and 2.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import distances, products, recomputed, row_pairs, rows, unit
from potstill.maps import expect_pairs
from potstill.term import Knowledge, Progress, Term
from potstill.types import Batch, Trace

AT_ONCE = 2**22
"""Numbers in the largest tensor of angles or differences that is made at once: 16 MB in float32."""


def rkd_distance_loss(student: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Smooth L1 (β = 1) between distances over their mean, mean over all N² pairs.

    Args:
        student: One point per image. Points that coincide are at distance 0 and get no gradient from it.
        teacher: One per image, of whatever width; detached here.
    """
    return F.smooth_l1_loss(_relative(student), _relative(teacher.detach()))


def rkd_angle_loss(student: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Smooth L1 (β = 1) between cosines of the angle at i between j and k, mean over all N³ triples.

    Above `AT_ONCE` numbers the vertices i are taken in chunks, each computed again on the way back, so that memory
    grows with N² and not with N³.

    Args:
        student: One point per image. Points that coincide span no angle: the cosine is 0 and has no gradient.
        teacher: One per image, of whatever width; detached here.
    """
    s, t = rows(student), rows(teacher.detach())
    count = len(s)
    chunk = max(1, AT_ONCE // (count * max(count, s.shape[1], t.shape[1])))
    if chunk >= count:
        total = _angles_apart(s, t, 0, count)
    else:
        parts = [recomputed(_angles_apart, s, t, start, start + chunk) for start in range(0, count, chunk)]
        total = torch.stack(parts).sum()
    return total / count**3


def _relative(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """Distances over the mean of the positive ones; zeros where there is none."""
    between = distances(rows(x))
    mean = between.sum() / (between > 0).sum().clamp_min(1)
    return between / mean.masked_fill(mean == 0, torch.inf)


def _angles_apart(s: Float[Tensor, "n s"], t: Float[Tensor, "n t"], start: int, stop: int) -> Float[Tensor, ""]:
    """The sum over the triples whose vertex is in [start, stop)."""
    return F.smooth_l1_loss(_cosines(s, start, stop), _cosines(t, start, stop), reduction="sum")


def _cosines(x: Float[Tensor, "n d"], start: int, stop: int) -> Float[Tensor, "i n n"]:
    towards = unit(x.unsqueeze(0) - x[start:stop].unsqueeze(1))
    return products(towards, towards)


@dataclass(frozen=True, kw_only=True)
class RKD(Term):
    """The student's pooled features lie to one another as the teacher's do, in distance and in angle.

    Attributes:
        distance: Weight of the distances, ≥ 0.
        angle: Weight of the angles, ≥ 0.
        student: The student's activations; the authors compare the pooled features.
        teacher: The teacher's, one for each of the student's; widths may differ.
    """

    distance: float = 25.0
    angle: float = 50.0
    student: tuple[str, ...] = ("pooled",)
    teacher: tuple[str, ...] = ("pooled",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Park et al. 2019, arXiv:1904.05068"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        both = (self.distance, self.angle)
        if not all(0 <= value < float("inf") for value in both) or not any(both):
            raise UserError(
                f"The distance and angle weights of {self.key!r} are {self.distance:g} and {self.angle:g}; expected "
                "numbers ≥ 0 that are not both 0."
            )

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """The weighted sum of both losses, summed over the pairs; a weight of 0 costs nothing."""
        weighted = ((self.distance, rkd_distance_loss), (self.angle, rkd_angle_loss))
        pairs = row_pairs(self, student, teacher)
        return torch.stack([weight * loss(s, t) for s, t in pairs for weight, loss in weighted if weight]).sum()
