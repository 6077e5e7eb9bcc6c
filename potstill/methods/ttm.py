"""Transformed teacher matching.

Kaixiang Zheng, En-Hui Yang: Knowledge Distillation Based on Transformed Teacher Matching. ICLR 2024,
arXiv:2402.11148, sections 3 and 4.

Only the teacher is softened, which is a power transform of its probabilities with the exponent 1/T. WTTM weighs each
image by the sum of the transformed probabilities, which is large where the teacher is unsure. Published for vgg13 →
vgg8: TTM with T = 10 and weight 45; WTTM, beside CRD, with T = 5 and weight 4.

Errata: there is no T², and with 100 classes and T = 10 WTTM's weight of an image is between 40 and 52 on CIFAR-100:
the weights of TTM, WTTM and KD cannot be exchanged. The published combination of WTTM with CRD is the only one whose
weight the authors' repository names.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import SampleWeight, batch_mean, expect_temperature, kl, log_softened
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def ttm_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    temperature: float,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """KL(softmax(teacher/T) ‖ softmax(student)): summed over classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        temperature: T > 0, of the teacher alone.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    return batch_mean(kl(log_softened(student), log_softened(teacher.detach(), temperature)), weight)


def wttm_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    temperature: float,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """`ttm_loss` with each image multiplied by Σ_k p_t,k^(1/T), p_t at T = 1.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        temperature: T > 0, of the teacher alone.
        weight: A further factor of each image, (N,); the sum is divided by N all the same.
    """
    unsure = (log_softened(teacher.detach()) / temperature).logsumexp(1).exp()
    return ttm_loss(student, teacher, temperature=temperature, weight=unsure if weight is None else unsure * weight)


@dataclass(frozen=True, kw_only=True)
class TTM(Term):
    """The student matches, unsoftened, the teacher's softened distribution.

    Attributes:
        temperature: T > 0, of the teacher alone.
    """

    weight: float = 45.0
    temperature: float = 10.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Zheng, Yang 2024, arXiv:2402.11148"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`ttm_loss` of the two logits."""
        answer = expect_teacher(self, teacher).logits
        return ttm_loss(student.logits, answer, temperature=self.temperature)


@dataclass(frozen=True, kw_only=True)
class WTTM(Term):
    """The same, each image weighed by how unsure the teacher is.

    Attributes:
        temperature: T > 0, of the teacher alone.
    """

    weight: float = 4.0
    temperature: float = 5.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Zheng, Yang 2024, arXiv:2402.11148"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`wttm_loss` of the two logits."""
        answer = expect_teacher(self, teacher).logits
        return wttm_loss(student.logits, answer, temperature=self.temperature)
