"""Refined logits.

Wujie Sun, Defang Chen, Siwei Lyu, Genlang Chen, Chun Chen, Can Wang: Knowledge Distillation with Refined Logits.
ICCV 2025, arXiv:2408.07703.

What a wrong teacher says is not believed where it contradicts the label: how sure it is of its own class is what the
student learns to be of the label, and the other classes are compared only below the teacher's logit of the label.

Errata: the two binary distributions are not of the same class where the teacher is wrong; that is meant. Where the
label is the teacher's least class no class is left, and that part is 0.
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
    kl,
    log_binary,
    log_softened,
)
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def rld_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    binary_temperature: float = 1.0,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """α · T_b² · KL(teacher's maximum against rest ‖ student's label against rest) + β · T² · KL over lesser classes.

    Lesser are the classes with z_t < z_t(label); each part is summed over its classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        labels: Classes of the images.
        alpha: α, the factor of the binary part.
        beta: β, the factor of the part over lesser classes.
        temperature: T > 0 of the part over lesser classes.
        binary_temperature: T_b > 0 of the binary part.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    teacher = teacher.detach()
    own = log_binary(log_softened(student, binary_temperature), labels)
    sure = kl(own, log_binary(log_softened(teacher, binary_temperature), teacher.argmax(1)))
    out = teacher >= at_label(teacher, labels)[:, None]
    lesser = kl(log_softened(student, temperature, out=out), log_softened(teacher, temperature, out=out))
    return batch_mean(alpha * binary_temperature**2 * sure + beta * temperature**2 * lesser, weight)


@dataclass(frozen=True, kw_only=True)
class RLD(Term):
    """Soft targets without what contradicts the label.

    Attributes:
        alpha: α, the factor of the binary part.
        beta: β, the factor of the part over lesser classes.
        temperature: T > 0 of the part over lesser classes.
        binary_temperature: T > 0 of the binary part.
    """

    warmup: float = 20.0
    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    binary_temperature: float = 1.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Sun et al. 2025, arXiv:2408.07703"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_temperature(self.binary_temperature)
        expect_factor(self.key, "alpha", self.alpha)
        expect_factor(self.key, "beta", self.beta)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`rld_loss` of the two logits and the labels."""
        answer = expect_teacher(self, teacher).logits
        return rld_loss(
            student.logits,
            answer,
            batch.labels,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            binary_temperature=self.binary_temperature,
        )
