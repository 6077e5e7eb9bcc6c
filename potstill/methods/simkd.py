"""Reuse of the teacher's classifier.

Defang Chen, Jian-Ping Mei, Hailin Zhang, Can Wang, Yan Feng, Chun Chen: Knowledge Distillation with the Reused Teacher
Classifier. CVPR 2022, arXiv:2203.14001.

Errata: what is deployed is trunk, projector and the teacher's classifier, whose parameters count; the student's own
classifier is trained by nothing. The projector ends in a ReLU, so the teacher's map must be from behind one. The
authors' code runs the whole teacher at test time, and pools a larger map of the student before it projects it; here it
is projected first, as it is where the student ships.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.connect import Connector, Projector, connected, connectors
from potstill.divergence import batch_mean
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import expect_pairs, expect_same_shape
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

Distance = Literal["l2", "kl"]


def simkd_loss(
    projected: Float[Tensor, "n c h w"],
    teacher: Float[Tensor, "n k y x"],
    *,
    distance: Distance = "l2",
    weight: Float[Tensor, " n"] | Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """How far the projected map is from the teacher's: a mean over images, some of which may count less.

    "l2" is the mean over all elements of (projected − teacher)²; "kl" is KL(softmax(teacher) ‖ softmax(projected)) over
    channels at temperature 1, mean over images and positions.

    Args:
        projected: The student's last map behind the projector.
        teacher: The teacher's last map, detached here.
        distance: "l2" or "kl".
        weight: Factor of each image, (N,); the sum is divided by N all the same.

    Raises:
        UserError: the maps are of unlike shape.
    """
    expect_same_shape(projected, teacher)
    s, t = precise(projected).flatten(2), precise(teacher.detach()).flatten(2)
    if distance == "kl":
        pointwise = F.kl_div(F.log_softmax(s, 1), F.log_softmax(t, 1), reduction="none", log_target=True)
        return batch_mean(pointwise.sum(1).mean(1), weight)
    return batch_mean((s - t).square().mean((1, 2)), weight)


@dataclass(frozen=True, kw_only=True)
class SimKD(Term):
    """The student's last map, projected, matches what the teacher's classifier is used to.

    Attributes:
        student: Maps of the student; where the student carries its projector itself, what the projector gives.
        teacher: Maps of the teacher, one for each.
        connector: The projector; `Identity()` where the student carries it itself.
        distance: "l2" or "kl".
    """

    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("stage3",)
    connector: Connector = Projector()
    distance: Distance = "l2"

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Chen et al. 2022, arXiv:2203.14001"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if self.distance not in get_args(Distance):
            raise UserError(f"The distance of {self.key!r} is {self.distance!r}; expected l2 or kl.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """One projector for each pair."""
        return connectors(self, self.connector, student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`simkd_loss` of each pair, the larger map pooled, added."""
        pairs = connected(self, learned, student, teacher)
        return torch.stack([simkd_loss(s, t, distance=self.distance) for s, t in pairs]).sum()
