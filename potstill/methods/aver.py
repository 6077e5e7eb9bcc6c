"""Averaged teachers: soft targets of several teachers, each counting alike.

Shan You, Chang Xu, Chao Xu, Dacheng Tao: Learning from Multiple Teacher Networks. KDD 2017, with its first part alone,
as later comparisons have it.

Errata: this pulls the student to the mean of the teachers' softened probabilities; `KD` under an ensemble pulls it to
the softened mean of their logits.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_temperature
from potstill.several import divergences, voices
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def average_loss(
    student: Float[Tensor, "n k"], teachers: Float[Tensor, "m n k"], *, temperature: float = 4.0
) -> Float[Tensor, ""]:
    """The mean over teachers of T² · KL(softmax(teacher/T) ‖ softmax(student/T)), mean over the batch.

    Args:
        student: Logits of the student.
        teachers: Logits of each teacher, detached here.
        temperature: T > 0.
    """
    return divergences(student, teachers, temperature).mean()


@dataclass(frozen=True, kw_only=True)
class AVER(Term):
    """Averaged teachers: the mean of the soft targets' losses, whatever weights the ensemble itself has.

    Attributes:
        temperature: T > 0.
    """

    temperature: float = 4.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "You et al. 2017, KDD"
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module | None:
        """Nothing; a single teacher is refused."""
        voices(self, teacher)
        return None

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`average_loss` of the student's logits and the teachers'."""
        return average_loss(student.logits, voices(self, teacher), temperature=self.temperature)
