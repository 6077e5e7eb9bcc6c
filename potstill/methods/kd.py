"""Soft targets.

Geoffrey Hinton, Oriol Vinyals, Jeff Dean: Distilling the Knowledge in a Neural Network. NIPS 2014 Deep Learning
Workshop, arXiv:1503.02531, section 2.

Errata: the paper's T² keeps the gradient's size as T changes; implementations that leave it out, or that divide the
divergence by the number of classes (`nn.KLDivLoss` with its default "mean"), weaken the soft term without saying so.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import SampleWeight, expect_temperature, softened_kl, standardize
from potstill.errors import UserError
from potstill.term import Knowledge, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def kd_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    temperature: float | Float[Tensor, ""],
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """T² · KL(softmax(teacher/T) ‖ softmax(student/T)): summed over classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        temperature: T > 0; a tensor where it is learned.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    return softened_kl(student, teacher, temperature=temperature, weight=weight)


@dataclass(frozen=True, kw_only=True)
class KD(Term):
    """Soft targets: the student matches the teacher's softened distribution.

    Attributes:
        temperature: T > 0.
        reduction: "batchmean" as derived; "mean" divides by the number of classes too, as code that calls
            `nn.KLDivLoss()` does: only to reproduce what such code published.
        standardize: Whether both sides' logits are standardized first (Sun et al. 2024, arXiv:2403.01427, whose
            usual weight is 9 with T = 2, beside 0.1 for the labels).
    """

    temperature: float = 4.0
    reduction: Literal["batchmean", "mean"] = "batchmean"
    standardize: bool = False

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Hinton, Vinyals, Dean 2015, arXiv:1503.02531"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        if self.reduction not in ("batchmean", "mean"):
            raise UserError(f"The reduction of {self.key!r} is {self.reduction!r}; expected batchmean or mean.")

    def suits_sample(self, temperature: float) -> bool:
        """It is linear in the softened answer, at its own temperature."""
        return self.temperature == temperature and not self.standardize and not self.only_right

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`kd_loss` of the two logits."""
        own, answer = student.logits, expect_teacher(self, teacher).logits
        if self.standardize:
            own, answer = standardize(own), standardize(answer)
        loss = kd_loss(own, answer, temperature=self.temperature)
        return loss / answer.shape[1] if self.reduction == "mean" else loss
