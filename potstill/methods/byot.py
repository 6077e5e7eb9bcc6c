"""Be your own teacher.

Linfeng Zhang, Jiebo Song, Anni Gao, Jingwei Chen, Chenglong Bao, Kaisheng Ma: Be Your Own Teacher: Improve the
Performance of Convolutional Neural Networks via Self Distillation. ICCV 2019, arXiv:1905.08094.

Heads after each stage learn from labels and from the deepest head, and their features from the deepest ones: weight
1 for the deepest head's labels, 0.03 for features, which the head next to the deepest does without.

Errata: there is no T², and the distance of features is the root of the sum over the whole batch, not a mean of
squares, so its gradient does not fade as they meet. The soft part of the authors' code is a cross-entropy, which has
the same gradient. The β of 1e-6 that is passed around belongs to a third party's squared form. As in the authors' final
code a linear layer stands between the features of a head and the deepest ones, both as their classifiers read them;
the conference's version has none. Their maps also pass an attention on the way to a head, which is left out here.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.connect import halving
from potstill.divergence import batch_mean, expect_factor, expect_temperature, kl, log_softened
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import as_map, as_vector
from potstill.term import Knowledge, Mode, Plan, Progress, Term
from potstill.types import Batch, Trace


def byot_loss(
    student: Float[Tensor, "n k"],
    deepest: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    alpha: float = 0.3,
    temperature: float = 3.0,
) -> Float[Tensor, ""]:
    """(1 − α) · cross-entropy + α · KL(softmax(deepest/T) ‖ softmax(student/T)), without T²: mean over the batch.

    Args:
        student: Logits of one head.
        deepest: Logits of the deepest head, detached here.
        labels: Classes of the images.
        alpha: α, from 0 to 1.
        temperature: T > 0 of the divergence.
    """
    soft = batch_mean(kl(log_softened(student, temperature), log_softened(deepest.detach(), temperature)))
    return (1 - alpha) * F.cross_entropy(precise(student), labels) + alpha * soft


def byot_feature_loss(adapted: Float[Tensor, "n ..."], deepest: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """‖adapted − deepest‖, the unsquared Euclidean norm over the whole batch.

    Args:
        adapted: One head's features, brought to the deepest ones' shape.
        deepest: The deepest features, detached here.
    """
    return cast(Tensor, torch.linalg.vector_norm(precise(adapted) - precise(deepest.detach())))


@dataclass(frozen=True, kw_only=True)
class BYOT(Term):
    """Be your own teacher: learned heads after the student's stages learn from labels and from its own answer.

    Beside it belong the labels of the deepest head, which are the student's own: `Labels()`. The heads are no part of
    the student and end with the training.

    Attributes:
        student: The student's activations that get a head, from the first to the one next to the deepest; maps or
            tokens.
        deepest: What the student's own classifier reads: the target of all heads' features but the last one's.
        alpha: Share of the soft target beside the label, from 0 to 1.
        temperature: T > 0 of the soft target.
        feature: Factor of the distance of features, ≥ 0.
    """

    student: tuple[str, ...] = ("stage1", "stage2")
    deepest: str = "pooled"
    alpha: float = 0.3
    temperature: float = 3.0
    feature: float = 0.03

    knowledge: ClassVar[Knowledge] = "feature"
    modes: ClassVar[tuple[Mode, ...]] = ("self",)
    citation: ClassVar[str] = "Zhang et al. 2019, arXiv:1905.08094"
    learns: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "feature", self.feature)
        if not 0 <= self.alpha <= 1:
            raise UserError(f"The alpha of {self.key!r} is {self.alpha:g}; expected a number from 0 to 1.")
        if not self.student:
            raise UserError(f"The term {self.key!r} has no taps; give it at least one that gets a head.")

    @property
    def needs_teacher(self) -> bool:
        """The student is its own, unless another says which images count."""
        return self.only_right

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Where the heads are, and what the student's own classifier reads."""
        return (*self.student, self.deepest)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """One head for each tap, all but the last with an adaptor of its features."""
        width = as_vector(student.taps[self.deepest]).shape[1]
        stages = list(range(len(self.student), 0, -1))  # From each tap to the deepest.
        return nn.ModuleList(
            _Head(x.shape[1], left, plan.classes, width if left > 1 else None)
            for x, left in zip(self._maps(student), stages, strict=True)
        )

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`byot_loss` of each head, and `byot_feature_loss` of each but the last times `feature`, summed."""
        target = as_vector(student.taps[self.deepest])
        total = student.logits.new_zeros(())
        for head, tapped in zip(cast(nn.ModuleList, learned), self._maps(student), strict=True):
            logits, adapted = head(tapped)
            total = total + byot_loss(
                logits, student.logits, batch.labels, alpha=self.alpha, temperature=self.temperature
            )
            if adapted is not None:
                total = total + self.feature * byot_feature_loss(adapted, target)
        return total

    def _maps(self, student: Trace) -> list[Tensor]:
        who = f"The term {self.key!r} puts heads on maps, but the student's"
        return [as_map(student.taps[tap], f"{who} {tap!r}") for tap in self.student]


class _Head(nn.Module):
    """What follows a stage: separable convolutions down to the deepest resolution, pooled, and a classifier."""

    def __init__(self, width: int, halvings: int, classes: int, deepest: int | None):
        super().__init__()
        last = width * 2**halvings
        blocks = [halving(width * 2**place) for place in range(halvings)]
        self.trunk = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(last, classes)
        self.adaptor = None if deepest is None else nn.Linear(last, deepest)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, C, H, W) to logits (N, K) and, where they are compared, features as wide as the deepest ones."""
        features = self.trunk(x)
        return self.classifier(features), None if self.adaptor is None else self.adaptor(features)
