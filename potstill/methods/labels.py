"""Learning from labels: the cross-entropy that every distillation is measured against."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.codec import LATER
from potstill.errors import UserError
from potstill.term import Knowledge, Progress, Term
from potstill.types import Batch, Companion, Trace


def label_loss(
    student: Float[Tensor, "n k"], labels: Int[Tensor, " n"] | Float[Tensor, "n k"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Cross-entropy of the student's logits against labels: mean over the batch.

    Args:
        student: Logits.
        labels: Class indices, or one distribution over the classes per image.
        smoothing: ε of label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7); each class gets ε/K of it.
    """
    return F.cross_entropy(student, labels, label_smoothing=smoothing)


@dataclass(frozen=True, kw_only=True)
class Labels(Term):
    """Cross-entropy against the labels.

    Attributes:
        smoothing: ε of label smoothing, in [0, 1].
        drawn_only: Whether only the drawn images count, not their companions (see `potstill.data.Data.companion`),
            which are the second half of the batch: for data with companions alone.
    """

    smoothing: float = 0.0
    drawn_only: bool = field(default=False, metadata=LATER)

    knowledge: ClassVar[Knowledge] = "label"
    citation: ClassVar[str] = "Cross-entropy on labels; smoothing after Szegedy et al. 2016, arXiv:1512.00567"
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing <= 1:
            raise UserError(f"Label smoothing is {self.smoothing:g}; expected a number from 0 to 1.")
        if self.drawn_only and self.only_right:
            raise UserError(
                f"The term {self.key!r} takes the first half of whole batches; leave only_right or drawn_only out."
            )

    @property
    def needs_teacher(self) -> bool:
        """Labels need no teacher, unless it says which images count."""
        return self.only_right

    def suits(self, companion: Companion | None) -> bool:
        """With companions or without, unless these are to be left out."""
        return companion is not None or not self.drawn_only

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`label_loss` of the student's logits."""
        logits, labels = student.logits, batch.labels
        if self.drawn_only:
            logits, labels = logits.chunk(2)[0], labels.chunk(2)[0]
        return label_loss(logits, labels, smoothing=self.smoothing)
