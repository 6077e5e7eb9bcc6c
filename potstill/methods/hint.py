"""Hints.

Adriana Romero, Nicolas Ballas, Samira Ebrahimi Kahou, Antoine Chassang, Carlo Gatta, Yoshua Bengio: FitNets: Hints for
Thin Deep Nets. ICLR 2015, arXiv:1412.6550.

Errata: the paper trains the hint alone, on the lower part of the student, and soft targets afterwards; the mean over
all elements and the weight of 100 belong to later tables, which train one joint stage with a regressor that ends in
batch norm and a ReLU. Such a regressor cannot reach targets from before a ReLU. Implementations do unlike things where
the student's map is smaller than the teacher's, so weights across such pairs are not comparable.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import Connector, Regressor, connected, connectors
from potstill.gram import precise
from potstill.maps import expect_pairs, expect_same_shape
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def hint_loss(regressed: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Mean over all elements of (regressed − teacher)².

    Args:
        regressed: The student's activation behind its regressor.
        teacher: The teacher's activation of the same shape, detached here.

    Raises:
        UserError: the shapes are unlike.
    """
    expect_same_shape(regressed, teacher)
    return (precise(regressed) - precise(teacher.detach())).square().mean()


@dataclass(frozen=True, kw_only=True)
class Hint(Term):
    """Hints: a regressor learns to tell the teacher's activation from the student's.

    Attributes:
        student: The guided layers.
        teacher: The hint layers, one for each.
        connector: The regressor.
    """

    weight: float = 100.0
    student: tuple[str, ...] = ("stage2",)
    teacher: tuple[str, ...] = ("stage2",)
    connector: Connector = Regressor()

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Romero et al. 2015, arXiv:1412.6550"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """One regressor for each pair."""
        return connectors(self, self.connector, student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`hint_loss` of each pair, added."""
        losses = [hint_loss(s, t) for s, t in connected(self, learned, student, teacher)]
        return torch.stack(losses).sum()
