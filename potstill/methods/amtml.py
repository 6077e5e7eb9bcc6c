"""Several teachers whose importance is learned.

Yuang Liu, Wei Zhang, Jun Wang: Adaptive Multi-Teacher Multi-level Knowledge Distillation. Neurocomputing 415, 2020,
arXiv:2103.04062: the integrated soft targets; its hints are `Hint` terms, and the relations that it adds `RKD`.

The student's features, the largest of each channel over positions, are multiplied by a learned factor of each teacher
and scored by one learned vector; a softmax over the scores says how much each teacher counts for an image.

Errata: nothing tells the importances of the labels: they follow whatever makes targets easy to match, and through the
features they move the student too, as in the authors' code. That averages the divergence over classes as well, and
weighs it 1.4 beside 0.3 of the labels at T = 5; here it is summed over classes: weight 1.4/K does the same. The authors
train importances and student together for 70 epochs with a penalty of 0.1 on the squares of both, and go on with fixed
ones; here they are learned throughout, and weight decay is the optimizer's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import batch_mean, expect_temperature
from potstill.gram import precise
from potstill.several import voices
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def integrated_loss(
    student: Float[Tensor, "n k"],
    teachers: Float[Tensor, "m n k"],
    weights: Float[Tensor, "m n"],
    *,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    """T² · KL(Σ_m w_m · softmax(teacher_m/T) ‖ softmax(student/T)): summed over classes, mean over the batch.

    The gradient reaches the student and the weights.

    Args:
        student: Logits of the student.
        teachers: Logits of each teacher, detached here.
        weights: Of each teacher for each image; they sum to 1 over the teachers.
        temperature: T > 0.
    """
    log_student = (precise(student) / temperature).log_softmax(1)
    targets = (weights.unsqueeze(2) * (precise(teachers.detach()) / temperature).softmax(2)).sum(0)
    # What no teacher says gives log 0: times 0 in the loss, but not on the way back.
    log_targets = targets.clamp_min(torch.finfo(targets.dtype).tiny).log()
    return batch_mean((targets * (log_targets - log_student)).sum(1)) * temperature**2


class Importance(nn.Module):
    """How much each teacher counts for an image.

    Args:
        width: D of the student's features.
        count: M, the number of teachers.
    """

    def __init__(self, width: int, count: int):
        super().__init__()
        self.factors = nn.Parameter(torch.randn(count, width))
        self.score = nn.Parameter(torch.randn(width))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
        """Shares that sum to 1 over the teachers."""
        # A sum of products rather than a product of matrices, which autocast would round.
        return (precise(features) * (self.factors * self.score).unsqueeze(1)).sum(2).softmax(0)


@dataclass(frozen=True, kw_only=True)
class AMTML(Term):
    """Soft targets of several teachers whose importance for each image is learned, from the student's features.

    Attributes:
        temperature: T > 0 of the soft targets.
        features: The student's activation that importances are read from; of a map, the largest over positions.
    """

    temperature: float = 4.0
    features: str = "stage3"

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Liu, Zhang, Wang 2020, arXiv:2103.04062"
    learns: ClassVar[bool] = True
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)

    @property
    def student_taps(self) -> tuple[str, ...]:
        """What importances are read from."""
        return (self.features,)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """The importances; a single teacher is refused."""
        return Importance(_largest(student.taps[self.features]).shape[1], len(voices(self, teacher)))

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`integrated_loss` under the importances."""
        assert isinstance(learned, Importance)
        weights = learned(_largest(student.taps[self.features]))
        return integrated_loss(student.logits, voices(self, teacher), weights, temperature=self.temperature)


def _largest(x: Tensor) -> Tensor:
    """One vector per image: the largest over the positions of a map or the tokens."""
    return x if x.dim() == 2 else x.flatten(2).amax(2) if x.dim() == 4 else x.amax(1)
