"""Weighted soft labels.

Helong Zhou, Liangchen Song, Jiajie Chen, Ye Zhou, Guoli Wang, Junsong Yuan, Qian Zhang: Rethinking Soft Labels for
Knowledge Distillation: A Bias-Variance Tradeoff Perspective. ICLR 2021, arXiv:2102.00650.

Each image's soft cross-entropy is weighed by how far behind its teacher the student is on the label. The published
weight is 2.25 with T = 4 on CIFAR-100, 2.5 with T = 2 on ImageNet, beside 1 for the labels.

Errata: it is a cross-entropy, so not zero where student and teacher agree; the weights are detached.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.divergence import (
    SampleWeight,
    at_label,
    batch_mean,
    expect_temperature,
    log_softened,
    soft_cross_entropy,
)
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def wsld_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    temperature: float = 4.0,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """T² · w · CE(softmax(teacher/T), softmax(student/T)), w = 1 − exp(−CE_s/(CE_t + 1e-7)) of the labels at T = 1.

    Summed over classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        labels: Classes of the images.
        temperature: T > 0.
        weight: A further factor of each image, (N,); the sum is divided by N all the same.
    """
    teacher = teacher.detach()
    behind = at_label(log_softened(student.detach()), labels) / (at_label(log_softened(teacher), labels) - 1e-7)
    share = -torch.expm1(-behind)
    soft = soft_cross_entropy(log_softened(student, temperature), log_softened(teacher, temperature).exp())
    return batch_mean(share * soft, weight) * temperature**2


@dataclass(frozen=True, kw_only=True)
class WSLD(Term):
    """Soft cross-entropy, image by image weighed by how far behind its teacher the student is.

    Attributes:
        temperature: T > 0.
    """

    weight: float = 2.25
    temperature: float = 4.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Zhou et al. 2021, arXiv:2102.00650"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`wsld_loss` of the two logits and the labels."""
        answer = expect_teacher(self, teacher).logits
        return wsld_loss(student.logits, answer, batch.labels, temperature=self.temperature)
