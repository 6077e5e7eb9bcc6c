"""Normalised distillation.

Zhendong Yang, Ailing Zeng, Zhe Li, Tianke Zhang, Chun Yuan, Yu Li: From Knowledge Distillation to Self-Knowledge
Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels. ICCV 2023, arXiv:2303.13005.

Soft cross-entropy whose target part stays at T = 1, and whose other classes are renormalised to sum to 1 on both
sides. γ = 1.5 with T = 1 is the authors' for ImageNet; on CIFAR-100 they have γ = 3.5 with T = 3.

Errata: it is a cross-entropy, so not zero where student and teacher agree. Code that fills its mask with ones where
the label is, too, as one revision of the authors' own does, computes the whole soft cross-entropy under this name.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.divergence import (
    SampleWeight,
    at_label,
    batch_mean,
    expect_factor,
    expect_temperature,
    is_label,
    log_softened,
    soft_cross_entropy,
)
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def nkd_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """−p_t(y) · log p_s(y) + γ · T² · CE(p̂_t, p̂_s), p̂ over the classes but the label: mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        labels: Classes of the images.
        gamma: γ, the factor of the other classes' part.
        temperature: T > 0 of the other classes' part; the label's is always at 1.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    teacher, label = teacher.detach(), is_label(labels, student.shape[1])
    target = at_label(log_softened(teacher), labels).exp() * -at_label(log_softened(student), labels)
    others = log_softened(teacher, temperature, out=label).exp()
    rest = soft_cross_entropy(log_softened(student, temperature, out=label), others)
    return batch_mean(target + gamma * temperature**2 * rest, weight)


@dataclass(frozen=True, kw_only=True)
class NKD(Term):
    """Soft cross-entropy of the label, and of the other classes renormalised.

    Attributes:
        gamma: γ, the factor of the other classes' part.
        temperature: T > 0 of the other classes' part.
    """

    gamma: float = 1.5
    temperature: float = 1.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Yang et al. 2023, arXiv:2303.13005"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "gamma", self.gamma)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`nkd_loss` of the two logits and the labels."""
        answer = expect_teacher(self, teacher).logits
        return nkd_loss(student.logits, answer, batch.labels, gamma=self.gamma, temperature=self.temperature)
