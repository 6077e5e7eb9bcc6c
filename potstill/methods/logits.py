"""Matching logits.

Jimmy Ba, Rich Caruana: Do Deep Nets Really Need to be Deep? NIPS 2014, arXiv:1312.6184.

`spherical_loss` compares directions alone, which leaves the student the size of its logits. Jia Guo, Minghao Chen, Yao
Hu, Chen Zhu, Xiaofei He, Deng Cai: Reducing the Teacher-Student Gap via Spherical Knowledge Distillation. 2020,
arXiv:2010.07485, soften such logits instead.

Errata: the paper halves the squares and sums them over classes; the mean over all elements is common since, so that
one weight serves any number of classes.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import SampleWeight, batch_mean, squared_distance
from potstill.gram import precise, unit
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def logits_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], *, weight: SampleWeight | None = None
) -> Float[Tensor, ""]:
    """(z_s − z_t)², mean over all elements.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    return batch_mean(squared_distance(student, teacher.detach()), weight)


def spherical_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], *, weight: SampleWeight | None = None
) -> Float[Tensor, ""]:
    """(z_s/‖z_s‖ − z_t/‖z_t‖)², mean over all elements.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    return logits_loss(unit(precise(student)), unit(precise(teacher)), weight=weight)


@dataclass(frozen=True, kw_only=True)
class Logits(Term):
    """The student's logits equal the teacher's."""

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Ba, Caruana 2014, arXiv:1312.6184"

    def suits_classes(self, *, missing: bool) -> bool:
        """It compares the numbers themselves, so none may be missing."""
        return not missing

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`logits_loss` of the two logits."""
        answer = expect_teacher(self, teacher).logits
        return logits_loss(student.logits, answer)


@dataclass(frozen=True, kw_only=True)
class Spherical(Term):
    """The student's logits point where the teacher's do."""

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Ba, Caruana 2014, arXiv:1312.6184, on logits of unit norm"

    def suits_classes(self, *, missing: bool) -> bool:
        """It compares the numbers themselves, so none may be missing."""
        return not missing

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`spherical_loss` of the two logits."""
        answer = expect_teacher(self, teacher).logits
        return spherical_loss(student.logits, answer)
