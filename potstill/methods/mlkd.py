"""Multi-level logit distillation.

Ying Jin, Jiaqi Wang, Dahua Lin: Multi-Level Logit Distillation. CVPR 2023.

Three levels of the same predictions, at several temperatures: each image's distribution, the relations between
images, and the relations between classes. As shipped, the loss is taken on a weakly augmented view with the factors
(½, ½, ½) and on a strongly augmented one with (1, 0, 0), × 0.9, beside 0.1 for the labels on both. With standardized
logits (Sun et al. 2024, arXiv:2403.01427) it is × 9 with the temperatures (2, 2, 3, 5, 6), and only the first
level's logits are standardized.

Errata: the paper masks images of which the teacher is sure and classes that it predicts often; the authors' code has
the losses summed up before the masks meet them, so that these only halve the loss, which is where the ½ comes from.
Its relations on the strong view are computed and thrown away, and at T = 2 and 6 its divergences of the strong view
are once more those of the weak one. `masked` has the paper's masks. Here both views are of the run's own augmentation;
the authors' strong one is RandAugment, and they train for twice the usual epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from potstill.divergence import batch_mean, expect_temperature, log_softened, softened_kl
from potstill.divergence import standardize as standardized
from potstill.errors import UserError
from potstill.gram import products
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Companion, Trace


def mlkd_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    instance: float = 1.0,
    batch: float = 1.0,
    classes: float = 1.0,
    standardize: bool = False,
    masked: bool = False,
) -> Float[Tensor, ""]:
    """Σ_T [instance · T² · KL + batch · ‖P_s P_sᵀ − P_t P_tᵀ‖²/N + classes · ‖P_sᵀ P_s − P_tᵀ P_t‖²/K].

    P is (N, K), the probabilities at T; the divergence is summed over classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        temperatures: Each T > 0.
        instance: Factor of the divergence of each image.
        batch: Factor of the relations between images.
        classes: Factor of the relations between classes.
        standardize: Whether the divergence of each image is of standardized logits.
        masked: Whether only those images count whose largest probability, and those classes whose sum over the batch,
            is at most the median of the teacher's.
    """
    teacher = teacher.detach()
    images, kinds = _masks(teacher) if masked else (None, None)
    own, answer = (standardized(student), standardized(teacher)) if standardize else (student, teacher)
    total = student.new_zeros((), dtype=torch.promote_types(student.dtype, torch.float32))
    for temperature in temperatures:
        s, t = log_softened(student, temperature).exp(), log_softened(teacher, temperature).exp()
        total = total + instance * softened_kl(own, answer, temperature=temperature, weight=images)
        total = total + batch * _relations(s, t, images) + classes * _relations(s.T, t.T, kinds)
    return total


def _relations(s: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
    """The squared difference of the two Gram matrices, by the number of their rows."""
    return batch_mean((products(s, s) - products(t, t)).square().sum(1), rows)


def _masks(teacher: Float[Tensor, "n k"]) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " k"]]:
    probabilities = log_softened(teacher).exp()
    sure, often = probabilities.amax(1), probabilities.sum(0)
    return sure <= sure.quantile(0.5), often <= often.quantile(0.5)


@dataclass(frozen=True, kw_only=True)
class MLKD(Term):
    """Multi-level distillation of two views of each image.

    Beside it belong labels on both views: `Labels(weight=0.2)` is the authors' 0.1 on each, for it takes their mean.

    Attributes:
        temperatures: Each T > 0; a value that stands there twice counts twice.
        first: Factors of the three levels on the first view: images, relations of images, relations of classes.
        second: The same on the second view.
        standardize: Whether the divergence of each image is of standardized logits (Sun et al. 2024, arXiv:2403.01427,
            whose weight is 9 with the temperatures 2, 2, 3, 5, 6).
        masked: Whether images and classes count as in the paper.
    """

    weight: float = 0.9
    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)
    first: tuple[float, float, float] = (0.5, 0.5, 0.5)
    second: tuple[float, float, float] = (1.0, 0.0, 0.0)
    standardize: bool = False
    masked: bool = False

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Jin, Wang, Lin 2023, CVPR"
    companion: ClassVar[Companion | None] = "view"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperatures:
            raise UserError(f"The term {self.key!r} has no temperatures; give it at least one.")
        for temperature in self.temperatures:
            expect_temperature(temperature)
        if not all(0 <= factor < float("inf") for factor in (*self.first, *self.second)):
            raise UserError(f"The levels of {self.key!r} weigh {self.first} and {self.second}; expected numbers ≥ 0.")

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`mlkd_loss` of the first view, added to that of the second."""
        views = zip(student.logits.chunk(2), expect_teacher(self, teacher).logits.chunk(2), strict=True)
        total = student.logits.new_zeros(())
        for (s, t), (instance, relations, classes) in zip(views, (self.first, self.second), strict=True):
            total = total + mlkd_loss(
                s,
                t,
                temperatures=self.temperatures,
                instance=instance,
                batch=relations,
                classes=classes,
                standardize=self.standardize,
                masked=self.masked,
            )
        return total
