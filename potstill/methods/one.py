"""On-the-fly native ensemble.

Xu Lan, Xiatian Zhu, Shaogang Gong: Knowledge Distillation by On-the-Fly Native Ensemble. NeurIPS 2018,
arXiv:1806.04606.

Branches on one trunk learn from their own ensemble, whose gate is learned from the labels. The branches' losses are
summed, × exp(−5(1 − e/80)²) until epoch e = 80.

The authors' gate reads the trunk's pooled features: a linear layer to one number for each branch, batch norm, ReLU,
softmax.

Errata: the ensemble is detached, as in the authors' code; only its own cross-entropy teaches the gate. They add 1e-7
to its probabilities, which is left out here. The term joins whole networks, which share no trunk: each has a gate of
its own, which reads its own features.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.divergence import expect_temperature, softened_kl
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import as_vector
from potstill.several import expect_members
from potstill.term import Knowledge, Mode, Plan, Progress, Term
from potstill.types import Batch, Trace


def one_loss(
    student: Float[Tensor, "n k"], ensemble: Float[Tensor, "n k"], *, temperature: float = 3.0
) -> Float[Tensor, ""]:
    """T² · KL(softmax(ensemble/T) ‖ softmax(branch/T)): summed over classes, mean over the batch.

    Args:
        student: Logits of one branch.
        ensemble: The gated sum of the branches' logits, detached here.
        temperature: T > 0.
    """
    return softened_kl(student, ensemble, temperature=temperature)


class Gate(nn.Module):
    """How much each network counts in the ensemble, image by image.

    Args:
        width: D of the features that it reads.
        count: M, the number of networks.
    """

    def __init__(self, width: int, count: int):
        super().__init__()
        self.score = nn.Linear(width, count, bias=False)  # The norm adds one.
        self.norm = nn.BatchNorm1d(count)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) to shares (N, M) that sum to 1, in float32 at least."""
        return precise(self.norm(self.score(features)).relu()).softmax(1)


@dataclass(frozen=True, kw_only=True)
class ONE(Term):
    """On-the-fly native ensemble: each network matches the gated ensemble of all, itself included.

    For runs whose teacher is `Peers`. Beside it belong the labels: `Labels()`. The cross-entropy of the ensemble itself
    is part of this term: it teaches the gate. The others' logits are constants, so its gradient reaches each network
    through that network's logits, by its share g of the ensemble, g · (p − label)/N, and through the features that its
    gate reads. Summed over the networks, everybody's logits get one such gradient, as branches under one gate do.

    Attributes:
        temperature: T > 0 of the soft targets.
        ramp: Epochs over which the soft part rises: × exp(−5(1 − e/ramp)²) in epoch e, from 0.
        features: The activation that the gate reads, averaged over positions.
    """

    temperature: float = 3.0
    ramp: float = 80.0
    features: str = "pooled"

    knowledge: ClassVar[Knowledge] = "response"
    modes: ClassVar[tuple[Mode, ...]] = ("online",)
    citation: ClassVar[str] = "Lan, Zhu, Gong 2018, arXiv:1806.04606"
    learns: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        if not 0 < self.ramp < float("inf"):
            raise UserError(f"The ramp of {self.key!r} is {self.ramp:g} epochs; expected a number > 0.")

    @property
    def student_taps(self) -> tuple[str, ...]:
        """What the gate reads."""
        return (self.features,)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """The gate."""
        return Gate(as_vector(student.taps[self.features]).shape[1], 1 + len(expect_members(self, teacher)))

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """The ensemble's cross-entropy, and `one_loss` against it times the ramp."""
        assert isinstance(learned, Gate)
        everybody = [student.logits, *(member.logits for member in expect_members(self, teacher))]
        shares = learned(as_vector(student.taps[self.features]))
        # No product of matrices, which autocast would round.
        ensemble = (shares.mT.unsqueeze(2) * precise(torch.stack(everybody))).sum(0)
        soft = one_loss(student.logits, ensemble, temperature=self.temperature)
        return F.cross_entropy(ensemble, batch.labels) + self.ramp_at(progress) * soft

    def scaled(self, ratio: float) -> Term:
        """The ramp keeps its share too."""
        return replace(super().scaled(ratio), ramp=self.ramp * ratio)

    def ramp_at(self, progress: Progress) -> float:
        """The factor of the soft part: exp(−5(1 − min(e, ramp)/ramp)²) in epoch e, from 0."""
        return math.exp(-5 * (1 - min(int(progress.epoch), self.ramp) / self.ramp) ** 2)
