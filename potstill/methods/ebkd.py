"""Teachers by their entropy: of several teachers those count more that are surer of an image.

Kisoo Kwon, Hwidong Na, Hoshik Lee, Nam Soo Kim: Adaptive Knowledge Distillation Based on Entropy. ICASSP 2020.

Errata: the weights here sum to 1 over the M teachers. The code of the comparisons divides them by M, not by M − 1, so
that they sum to (M − 1)/M; the term has this factor. A teacher that is certain has an entropy of 0 · log 0, which is 0
here, and where all are certain each counts 1/M.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_temperature
from potstill.gram import precise
from potstill.several import expect_several, voices, weighted_kd_loss
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def entropy_weights(teachers: Float[Tensor, "m n k"]) -> Float[Tensor, "m n"]:
    """(1 − H_m / ΣH) / (M − 1), H the entropy of softmax(teacher); 1/M where every teacher is certain.

    Args:
        teachers: Logits of each teacher, detached here.

    Raises:
        UserError: there are fewer than two teachers.
    """
    expect_several(len(teachers))
    # Its 0 · log 0 is 0.
    entropy = cast(Tensor, torch.special.entr(precise(teachers.detach()).softmax(2))).sum(2)
    total = entropy.sum(0, keepdim=True)
    share = torch.where(total > 0, entropy / total.masked_fill(total == 0, 1), 1 / len(teachers))
    return (1 - share) / (len(teachers) - 1)


@dataclass(frozen=True, kw_only=True)
class EBKD(Term):
    """Entropy-based soft targets of several teachers: the surer one is of an image, the more it counts.

    Attributes:
        temperature: T > 0 of the soft targets; the entropies are of temperature 1.
    """

    temperature: float = 4.0

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Kwon et al. 2020, ICASSP"
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
        """(M − 1)/M · `weighted_kd_loss` under `entropy_weights`."""
        said = voices(self, teacher)
        loss = weighted_kd_loss(student.logits, said, entropy_weights(said), temperature=self.temperature)
        return loss * ((len(said) - 1) / len(said))
