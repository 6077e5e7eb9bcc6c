"""Teacher-free distillation.

Li Yuan, Francis E. H. Tay, Guilin Li, Tao Wang, Jiashi Feng: Revisiting Knowledge Distillation via Label Smoothing
Regularization. CVPR 2020, arXiv:1909.11723, section 5 (the virtual teacher, Tf-KD_reg).

A virtual teacher gives the label the probability `correct` and every other class an equal share of the rest,
softened. The other form, Tf-KD_self, is `KD` with a teacher of the student's own kind.

Errata: the authors' code softens *probabilities* as if they were logits (`shipped`), and its `nn.KLDivLoss()`
divides by the number of classes too: with the mean over the batch its factor α · m, m its "multiplier", is α · m/K
here (CIFAR-100: ResNet18 0.1 beside 0.9 for the labels, T = 20; beside 0.05 MobileNetV2 0.0095 with T = 40, and
ShuffleNetV2 0.0095 with T = 10).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.divergence import batch_mean, expect_temperature, is_label, kl, log_softened
from potstill.errors import UserError
from potstill.term import Knowledge, Mode, Progress, Term
from potstill.types import Batch, Trace


def tfkd_loss(
    student: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    temperature: float = 20.0,
    correct: float = 0.99,
    shipped: bool = False,
) -> Float[Tensor, ""]:
    """KL(target ‖ softmax(student)), target u^(1/T) renormalised: summed over classes, mean over the batch.

    u is `correct` at the label and (1 − correct)/(K − 1) elsewhere.

    Args:
        student: Logits.
        labels: Classes of the images.
        temperature: T > 0, of the target alone.
        correct: The virtual teacher's probability of the label, between 0 and 1.
        shipped: Whether the target is softmax(u/T).

    Raises:
        UserError: `correct` is no such probability.
    """
    _expect_correct(correct)
    wrong = (1 - correct) / (student.shape[1] - 1)
    high, low = (correct, wrong) if shipped else (math.log(correct), math.log(wrong))
    precise = torch.promote_types(student.dtype, torch.float32)
    virtual = is_label(labels, student.shape[1]).to(precise) * (high - low) + low
    return batch_mean(kl(log_softened(student), log_softened(virtual, temperature)))


def _expect_correct(correct: float) -> None:
    if not 0 < correct < 1:
        raise UserError(f"The virtual teacher's probability of the label is {correct:g}; expected one between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class TFKD(Term):
    """Teacher-free distillation: a virtual teacher, made of the labels alone.

    The weight is ResNet18's on CIFAR-100, beside `Labels(weight=0.9)`; it was published for the `shipped` form.

    Attributes:
        temperature: T > 0, of the target alone.
        correct: The virtual teacher's probability of the label, between 0 and 1.
        shipped: Whether probabilities are softened as if they were logits, as in the authors' code.
    """

    weight: float = 0.1
    temperature: float = 20.0
    correct: float = 0.99
    shipped: bool = False

    knowledge: ClassVar[Knowledge] = "label"
    modes: ClassVar[tuple[Mode, ...]] = ("self",)
    citation: ClassVar[str] = "Yuan et al. 2020, arXiv:1909.11723"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        _expect_correct(self.correct)

    @property
    def needs_teacher(self) -> bool:
        """The virtual one needs no other, unless that one says which images count."""
        return self.only_right

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`tfkd_loss` of the student's logits."""
        return tfkd_loss(
            student.logits, batch.labels, temperature=self.temperature, correct=self.correct, shipped=self.shipped
        )
