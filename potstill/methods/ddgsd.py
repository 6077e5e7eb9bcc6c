"""Data-distortion guided self-distillation.

Ting-Bing Xu, Cheng-Lin Liu: Data-Distortion Guided Self-Distillation for Deep Neural Networks. AAAI 2019.

Two augmented views of each image teach each other: weight 1 for their answers and 5e-4 for the means of their pooled
features, beside the mean of both views' cross-entropies.

Errata: the weights, the temperature and what is detached are those of a later reimplementation, for no code of the
authors is known: as a target each answer is detached; the features are not. That code compares one mean over all
features instead of each feature's, and takes half the mean of the cross-entropies.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_factor, expect_temperature, softened_kl
from potstill.gram import rows
from potstill.term import Knowledge, Mode, Progress, Term
from potstill.types import Batch, Companion, Trace


def ddgsd_loss(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"], *, temperature: float) -> Float[Tensor, ""]:
    """T² · [KL(p₂ ‖ p₁) + KL(p₁ ‖ p₂)], the targets detached: summed over classes, mean over the batch.

    Args:
        first: Logits of one view.
        second: Logits of another view of the same images.
        temperature: T > 0.
    """
    forth = softened_kl(first, second, temperature=temperature)
    return forth + softened_kl(second, first, temperature=temperature)


def ddgsd_feature_loss(first: Float[Tensor, "n ..."], second: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """‖mean over the batch of f₁ − mean over the batch of f₂‖²: the maximum mean discrepancy of a linear kernel.

    Args:
        first: Features of one view, usually pooled.
        second: Features of another view.
    """
    return (rows(first).mean(0) - rows(second).mean(0)).square().sum()


@dataclass(frozen=True, kw_only=True)
class DDGSD(Term):
    """Data-distortion guided self-distillation: two views of each image teach each other.

    Beside it belong labels on both views: `Labels()`, which takes their mean.

    Attributes:
        student: The student's activations whose means over the batch shall agree; without any only answers count.
        temperature: T > 0.
        feature: Factor of the difference of the means, summed over the activations, ≥ 0.
    """

    student: tuple[str, ...] = ("pooled",)
    temperature: float = 4.0
    feature: float = 5e-4

    knowledge: ClassVar[Knowledge] = "response"
    modes: ClassVar[tuple[Mode, ...]] = ("self",)
    citation: ClassVar[str] = "Xu, Liu 2019, AAAI"
    companion: ClassVar[Companion | None] = "view"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "feature", self.feature)

    @property
    def needs_teacher(self) -> bool:
        """The student is its own."""
        return False

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`ddgsd_loss` of the two views, and `ddgsd_feature_loss` of each activation times `feature`."""
        total = ddgsd_loss(*student.logits.chunk(2), temperature=self.temperature)
        for tap in self.student:
            total = total + self.feature * ddgsd_feature_loss(*student.taps[tap].chunk(2))
        return total
