"""Class attention transfer.

Ziyao Guo, Haonan Yan, Hui Li, Xiaodong Lin: Class Attention Transfer Based Knowledge Distillation. CVPR 2023,
arXiv:2304.12777.

Errata: the authors rebuild networks to end in a 1×1 convolution without a bias and a mean; here the usual linear
classifier is read as one, and its bias left out of the maps. The paper normalises each class map; the published results
of pairs of one family come without. The weight depends on the pair and on the resolution: raw maps at 2×2 for
ResNet8×4 (15, the default here), ResNet20 (0.7), ResNet32 (1.8), WRN-16-2 (12), WRN-40-1 (1.5), VGG8 (4.5); normalised
maps at 2×2 for MobileNetV2 (15 from VGG13, 40 from ResNet50), at 4×4 for ShuffleNets (600 from ResNets, 80 for
ShuffleNetV1 from WRNs).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise, unit
from potstill.maps import as_vector, expect_pairs, student_maps, teacher_maps
from potstill.places import FrozenLinear, classifier
from potstill.term import Knowledge, Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def catkd_loss(
    student: Float[Tensor, "n k h w"],
    teacher: Float[Tensor, "n k y x"],
    *,
    resolution: int = 2,
    normalise: bool = False,
) -> Float[Tensor, ""]:
    """Mean over all elements of (student − teacher)² of class maps, pooled to `resolution` × `resolution`.

    Args:
        student: One map for each class: the classifier's weights times the last map, before pooling.
        teacher: The same of the teacher, of any height and width, detached here.
        resolution: Height and width of what is compared, ≥ 1.
        normalise: Whether each pooled map is scaled to unit length.
    """
    s, t = (F.adaptive_avg_pool2d(precise(x), resolution).flatten(2) for x in (student, teacher.detach()))
    return (unit(s) - unit(t) if normalise else s - t).square().mean()


def class_maps(features: Float[Tensor, "n c h w"], weight: Float[Tensor, "k c"]) -> Float[Tensor, "n k h w"]:
    """Σ_c weight[k, c] · features[c] at each position: their means are the logits without the bias.

    Args:
        features: The last map, which is pooled and then classified.
        weight: Of the linear classifier.
    """
    return F.conv2d(features, weight[:, :, None, None])


class _Readers(nn.Module):
    """The two classifiers: the student's own, which goes on being learned with it, and a copy of the teacher's."""

    def __init__(self, student: nn.Linear, teacher: nn.Linear):
        super().__init__()
        self._student = (student,)  # In a tuple it stays the student's: no second owner in states and optimizers.
        self.teacher = FrozenLinear(teacher)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Last maps (N, C, H, W) to class maps (N, K, H, W) on either side."""
        return class_maps(student, self._student[0].weight), class_maps(teacher, self.teacher.weight)


@dataclass(frozen=True, kw_only=True)
class CATKD(Term):
    """Class attention transfer: where the student sees each class is where the teacher sees it.

    Attributes:
        student: The last map, which is averaged and classified by a linear layer.
        teacher: The same of the teacher.
        resolution: Height and width of what is compared, ≥ 1.
        normalise: Whether each class's map is scaled to unit length: for pairs of unlike families.
    """

    weight: float = 15.0
    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("stage3",)
    resolution: int = 2
    normalise: bool = False

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Guo et al. 2023, arXiv:2304.12777"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if len(self.student) != 1:
            raise UserError(f"The term {self.key!r} was given {len(self.student)} pairs of taps; expected one.")
        if self.resolution < 1:
            raise UserError(f"The resolution of {self.key!r} is {self.resolution}; expected a whole number ≥ 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """Nothing is learned; refuses networks that do more to their last map than average and classify it."""
        if plan.teacher is None:
            raise UserError(f"The term {self.key!r} reads the classifier of a teacher network; give it a network.")
        ours = self._reader("student", plan.student, self.student[0], student_maps(self, student)[0], student)
        answer = expect_teacher(self, teacher)
        theirs = self._reader("teacher", plan.teacher, self.teacher[0], teacher_maps(self, teacher)[0], answer)
        return _Readers(ours, theirs)

    def _reader(self, who: str, network: nn.Module, tap: str, features: Tensor, trace: Trace) -> nn.Linear:
        last = classifier(network, who)
        pooled = as_vector(features)
        if pooled.shape[1] == last.in_features:
            logits = F.linear(pooled.to(last.weight), last.weight, last.bias)
            if torch.allclose(logits, trace.logits.to(logits), rtol=1e-2, atol=1e-3):
                return last
        raise UserError(
            f"The term {self.key!r} needs class maps, but the {who}'s logits are not its classifier's answer to the "
            f"mean of {tap!r}; tap the last map of a network that averages and classifies it."
        )

    def suits_classes(self, *, missing: bool) -> bool:
        """Never: it reads the teacher's own classifier, class by class."""
        return False

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`catkd_loss` of the class maps."""
        assert learned is not None
        ours, theirs = learned(student_maps(self, student)[0], teacher_maps(self, teacher)[0])
        return catkd_loss(ours, theirs, resolution=self.resolution, normalise=self.normalise)
