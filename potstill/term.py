"""The contract of a term: one part of the objective, which says what it needs and computes one scalar."""

import abc
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from potstill.errors import UserError
from potstill.types import Batch, Companion, Trace

Knowledge = Literal["label", "response", "feature", "relation"]
Mode = Literal["offline", "online", "self"]


class Progress(NamedTuple):
    """Where a training stands, for terms that change as it goes on.

    Attributes:
        step: Steps since the run began, from 0.
        epoch: Epochs since the stage began, with a fraction: 1.5 in the middle of the second.
        epochs: Length of the stage in epochs.
    """

    step: int
    epoch: float
    epochs: int


class Plan(NamedTuple):
    """What a term may look at when it builds what it learns.

    Attributes:
        student: The student network, read-only.
        teacher: The teacher network, read-only; None where there is none, or it is not a network.
        batch_size: Images per step.
        classes: K.
        labels: Labels of the training images, (n,), in the order of the training split.
        index: Their places in the published split, (n,), as `Batch.index` has them.
    """

    student: nn.Module
    teacher: nn.Module | None
    batch_size: int
    classes: int
    labels: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]


@dataclass(frozen=True, kw_only=True)
class Term(abc.ABC):
    """One part of the objective: what it needs, what it learns, and its scalar loss.

    Attributes:
        weight: Factor of the loss in the sum, ≥ 0.
        warmup: Epochs over which the weight rises linearly: × min((e + 1) / warmup, 1) in epoch e, from 0.
        only_right: Whether only images that the teacher gets right count: the loss of these, times their share of the
            batch (for a mean over images, Σ of theirs / N); a batch with fewer than two of them counts nothing.
        name: Label of the loss in metrics and of what the term learns; empty means the class's name in lower case.
    """

    weight: float = 1.0
    warmup: float = 0.0
    only_right: bool = False
    name: str = ""

    knowledge: ClassVar[Knowledge]
    modes: ClassVar[tuple[Mode, ...]] = ("offline",)
    citation: ClassVar[str]
    learns: ClassVar[bool] = False
    """Whether `build` answers parameters to train, with the default options."""
    reads_labels: ClassVar[bool] = False
    """Whether the loss looks at the labels of the batch, beside what `only_right` does."""
    reads_logits: ClassVar[bool] = True
    """Whether the loss looks at the teacher's logits, beside what `only_right` does."""
    companion: ClassVar[Companion | None] = None
    """What must come along with each image, in the second half of a batch (see `potstill.data.Data.companion`)."""
    several: ClassVar[bool] = False
    """Whether the teacher must be several that speak as one, each of whom the loss looks at (see `Trace.members`)."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise UserError(f"The weight of {self.key!r} is {self.weight:g}; expected a number ≥ 0.")
        if self.only_right and self.companion is not None:
            raise UserError(f"The term {self.key!r} takes whole batches of pairs; leave only_right out.")
        if not 0 <= self.warmup < float("inf"):
            raise UserError(f"The warm-up of {self.key!r} is {self.warmup:g} epochs; expected a number ≥ 0.")

    @property
    def key(self) -> str:
        """The name under which losses and learned parts are found."""
        return self.name or type(self).__name__.lower()

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss looks at the teacher's trace."""
        return True

    @property
    def needs_logits(self) -> bool:
        """Whether somebody has to know what the teacher's logits are."""
        return self.needs_teacher and (self.reads_logits or self.only_right)

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The student's activations that the loss looks at, as tap paths or aliases: its field `student`, if any."""
        return getattr(self, "student", ())

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The teacher's activations that the loss looks at, as tap paths or aliases: its field `teacher`, if any."""
        return getattr(self, "teacher", ())

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module | None:
        """What the term learns, sized by the traces of a dry run over two images; None where it learns nothing.

        Raises:
            UserError: the two networks do not fit this term.
        """
        return None

    @abc.abstractmethod
    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """The scalar loss, before its weight."""

    def suits(self, companion: Companion | None) -> bool:
        """Whether it can look at batches in which images come with such companions, or with none."""
        return self.companion in (None, companion)

    def suits_sample(self, temperature: float) -> bool:
        """Whether it is unbiased where the teacher's logits stand for drawn classes (`potstill.store.sampling`)."""
        return not self.needs_teacher

    def suits_classes(self, *, missing: bool) -> bool:
        """Whether it can learn from a teacher whose outputs are mapped to the data's classes (see `potstill.reading`).

        Args:
            missing: Whether the teacher lacks some of the classes: their logits are far below all others.
        """
        return not (missing and getattr(self, "standardize", False))

    def weight_at(self, progress: Progress) -> float:
        """The weight in force: the warm-up's share of `weight`."""
        rise = min((int(progress.epoch) + 1) / self.warmup, 1.0) if self.warmup else 1.0
        return self.weight * rise

    def scaled(self, ratio: float) -> "Term":
        """The same term in a stage `ratio` times as long: what it counts in epochs keeps its share."""
        return replace(self, warmup=self.warmup * ratio)


def expect_teacher(term: Term, teacher: Trace | None) -> Trace:
    """The teacher's trace, for terms that cannot do without.

    Raises:
        UserError: there is none.
    """
    if teacher is None:
        raise UserError(f"The term {term.key!r} compares with a teacher, but the run names none; give it a teacher.")
    return teacher
