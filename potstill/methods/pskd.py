"""Progressive refinement of targets.

Kyungyul Kim, ByeongMoon Ji, Doyoung Yoon, Sangheum Hwang: Self-Knowledge Distillation with Progressive Refinement of
Targets. ICCV 2021, arXiv:2006.12000.

The student's own answers of the epoch before are mixed into the labels, more and more of them: α = 0.8 · (e + 1)/E
in epoch e of E, from 0. It takes the place of the cross-entropy on labels; in the first epoch the past is the label
itself.

Errata: the past is what the student said in training, augmented as the image then was, not an evaluation of it.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.divergence import batch_mean, is_label, log_softened, soft_cross_entropy
from potstill.errors import UserError
from potstill.gram import precise
from potstill.term import Knowledge, Mode, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def pskd_loss(
    student: Float[Tensor, "n k"], past: Float[Tensor, "n k"], labels: Int[Tensor, " n"], *, alpha: float
) -> Float[Tensor, ""]:
    """Cross-entropy against (1 − α) · onehot(label) + α · past: mean over the batch.

    Args:
        student: Logits.
        past: Probabilities that the student gave before, detached here.
        labels: Classes of the images.
        alpha: α, the share of the past, from 0 to 1.
    """
    past = precise(past.detach())
    target = alpha * past + (1 - alpha) * is_label(labels, student.shape[1]).to(past.dtype)
    return batch_mean(soft_cross_entropy(log_softened(student), target))


@dataclass(frozen=True, kw_only=True)
class PSKD(Term):
    """Progressive refinement of targets: cross-entropy against labels into which the student's own past is mixed.

    For runs whose teacher is `OwnPast`, which says what the student said an epoch ago, and the label itself before
    that. It takes the place of `Labels`.

    Attributes:
        alpha: Share of the past in the last epoch, from 0 to 1; it rises to it linearly over the stage.
    """

    alpha: float = 0.8

    knowledge: ClassVar[Knowledge] = "response"
    modes: ClassVar[tuple[Mode, ...]] = ("self",)
    citation: ClassVar[str] = "Kim et al. 2021, arXiv:2006.12000"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise UserError(f"The alpha of {self.key!r} is {self.alpha:g}; expected a number from 0 to 1.")

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`pskd_loss` of the student's logits and the softmax of the past ones."""
        past = precise(expect_teacher(self, teacher).logits).softmax(1)
        return pskd_loss(student.logits, past, batch.labels, alpha=self.alpha_at(progress))

    def alpha_at(self, progress: Progress) -> float:
        """The share of the past in force: alpha · (e + 1)/E in epoch e of E, from 0."""
        # What is judged after the last epoch is judged as in it.
        return self.alpha * min(int(progress.epoch) + 1, progress.epochs) / progress.epochs
