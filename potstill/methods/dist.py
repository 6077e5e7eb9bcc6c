"""Distillation from a stronger teacher.

Tao Huang, Shan You, Fei Wang, Chen Qian, Chang Xu: Knowledge Distillation from A Stronger Teacher. NeurIPS 2022,
arXiv:2205.10536, section 3.

Correlation instead of equality: of each image's probabilities over classes, and of each class's over the batch. The
published weight is 2 with τ = 4 on CIFAR-100, τ = 1 on ImageNet, beside 1 for the labels.

Errata: the part over the batch depends on its size: with 64 images of 100 classes most columns are noise, and a last
batch of one image has no correlation at all (each class then counts as 1).
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_factor, expect_temperature, log_softened, pearson
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def dist_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    """τ² · (β · mean over images of 1 − ρ(rows) + γ · mean over classes of 1 − ρ(columns)) of the probabilities.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        beta: β, the factor of the correlation between classes.
        gamma: γ, the factor of the correlation over the batch.
        temperature: τ > 0.
    """
    own = log_softened(student, temperature).exp()
    answer = log_softened(teacher.detach(), temperature).exp()
    rows, columns = 1 - pearson(own, answer).mean(), 1 - pearson(own.T, answer.T).mean()
    return (beta * rows + gamma * columns) * temperature**2


@dataclass(frozen=True, kw_only=True)
class DIST(Term):
    """The student's probabilities correlate with the teacher's, over classes and over the batch.

    Attributes:
        beta: β, the factor of the correlation between classes.
        gamma: γ, the factor of the correlation over the batch.
        temperature: τ > 0.
    """

    weight: float = 2.0
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 4.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Huang et al. 2022, arXiv:2205.10536"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "beta", self.beta)
        expect_factor(self.key, "gamma", self.gamma)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`dist_loss` of the two logits."""
        answer = expect_teacher(self, teacher).logits
        options = {"beta": self.beta, "gamma": self.gamma, "temperature": self.temperature}
        return dist_loss(student.logits, answer, **options)
