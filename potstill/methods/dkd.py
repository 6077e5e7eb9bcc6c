"""Decoupled knowledge distillation.

Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang: Decoupled Knowledge Distillation. CVPR 2022,
arXiv:2203.08679, section 3.

The softened divergence is that of the label against the rest (TCKD) plus that among the rest (NCKD), weighed by 1 −
p_t(label); here both have weights of their own. The published β is 8, 6 or 2 by pair of networks on CIFAR-100, over 20
epochs of warm-up, and 0.5 with T = 1 and a single one on ImageNet.

Errata: the authors' code takes the logarithm of the binary part without guarding it, which is infinite once the
student is sure; here it is a logsumexp. With standardized logits the published weight multiplies both α and β.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.divergence import (
    SampleWeight,
    batch_mean,
    expect_factor,
    expect_temperature,
    is_label,
    kl,
    log_binary,
    log_softened,
    standardize,
)
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def dkd_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """T² · (α · TCKD + β · NCKD): each summed over its classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        labels: Classes of the images.
        alpha: α, the factor of the divergence of the label against the rest.
        beta: β, the factor of the divergence among the rest.
        temperature: T > 0.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    teacher, label = teacher.detach(), is_label(labels, student.shape[1])
    target, others = (
        kl(
            log_binary(log_softened(student, temperature), labels),
            log_binary(log_softened(teacher, temperature), labels),
        ),
        kl(log_softened(student, temperature, out=label), log_softened(teacher, temperature, out=label)),
    )
    return batch_mean(alpha * target + beta * others, weight) * temperature**2


@dataclass(frozen=True, kw_only=True)
class DKD(Term):
    """Soft targets in two parts, label against rest and among the rest.

    Attributes:
        alpha: α, the factor of the divergence of the label against the rest.
        beta: β, the factor of the divergence among the rest.
        temperature: T > 0.
        standardize: Whether both sides' logits are standardized first (Sun et al. 2024, arXiv:2403.01427).
    """

    warmup: float = 20.0
    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    standardize: bool = False

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Zhao et al. 2022, arXiv:2203.08679"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "alpha", self.alpha)
        expect_factor(self.key, "beta", self.beta)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`dkd_loss` of the two logits and the labels."""
        own, answer = student.logits, expect_teacher(self, teacher).logits
        if self.standardize:
            own, answer = standardize(own), standardize(answer)
        return dkd_loss(own, answer, batch.labels, alpha=self.alpha, beta=self.beta, temperature=self.temperature)
