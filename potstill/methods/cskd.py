"""Class-wise self-distillation.

Sukmin Yun, Jongjin Park, Kimin Lee, Jinwoo Shin: Regularizing Class-wise Predictions via Self-knowledge
Distillation. CVPR 2020, arXiv:2003.13964.

The student's answer to one image is the target for another image of the same class. The weight is 1 with T = 4 on
CIFAR-100, 3 on fine-grained data; the labels' cross-entropy is of the first image alone.

Errata: in the authors' code the partner's pass has no gradient but is in training mode, so that batch norm sees it,
and an image may be its own partner. The term shows both in one pass, so that batch norm takes them together.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_temperature, softened_kl
from potstill.term import Knowledge, Mode, Progress, Term
from potstill.types import Batch, Companion, Trace


def cskd_loss(
    student: Float[Tensor, "n k"], partner: Float[Tensor, "n k"], *, temperature: float = 4.0
) -> Float[Tensor, ""]:
    """T² · KL(softmax(partner/T) ‖ softmax(student/T)): summed over classes, mean over the batch.

    Args:
        student: Logits.
        partner: Logits of other images of the same classes, detached here.
        temperature: T > 0.
    """
    return softened_kl(student, partner, temperature=temperature)


@dataclass(frozen=True, kw_only=True)
class CSKD(Term):
    """Class-wise self-distillation: each image's answer is drawn to that of a classmate.

    Beside it belong the labels of the drawn images alone: `Labels(drawn_only=True)`.

    Attributes:
        temperature: T > 0.
    """

    temperature: float = 4.0

    knowledge: ClassVar[Knowledge] = "response"
    modes: ClassVar[tuple[Mode, ...]] = ("self",)
    citation: ClassVar[str] = "Yun et al. 2020, arXiv:2003.13964"
    companion: ClassVar[Companion | None] = "classmate"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    @property
    def needs_teacher(self) -> bool:
        """The student is its own."""
        return False

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`cskd_loss` of the drawn images and their classmates."""
        drawn, classmates = student.logits.chunk(2)
        return cskd_loss(drawn, classmates, temperature=self.temperature)
