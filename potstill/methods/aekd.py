"""Teachers by their gradients: several teachers are combined so that the student's step agrees with all of them best.

Shangchen Du, Shan You, Xiaojie Li, Jianlong Wu, Fei Wang, Chen Qian, Changshui Zhang: Agree to Disagree: Adaptive
Ensemble Knowledge Distillation in Gradient Space. NeurIPS 2020.

Errata: the authors' code runs a support vector machine on the CPU each step; the small quadratic problem that it solves
is solved here on the device. Its gradients are those with respect to the logits, in the mean over the batch.
"""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_temperature
from potstill.errors import UserError
from potstill.gram import precise
from potstill.several import voices, weighted_kd_loss
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

MOST = 8
"""Teachers whose gradients can be weighed: the active sets tried are 3 to the power of their number."""

# Against the trace of the gradients' products: ties between teachers are broken evenly.
_RIDGE = 1e-10
_SLACK = 1e-9


def gradient_weights(
    student: Float[Tensor, "n k"],
    teachers: Float[Tensor, "m n k"],
    *,
    temperature: float = 4.0,
    tolerance: float = 0.6,
) -> Float[Tensor, " m"]:
    """The w that minimises wᵀGGᵀw with Σw = 1 and 0 ≤ w ≤ C; rows of G are batch means of T·(p_s − p_t).

    A row of G is the gradient of one teacher's divergence T² · KL with respect to the logits. The minimum is
    found over all active sets, in float64, without reading anything back from the device.

    Args:
        student: Logits of the student; detached here.
        teachers: Logits of each teacher; detached here.
        temperature: T > 0.
        tolerance: C, from 1/M (then all weights are equal) up; 1 bounds nothing.

    Raises:
        UserError: C is below 1/M, or there are more than `MOST` teachers.
    """
    count = len(teachers)
    if count > MOST:
        raise UserError(f"There are {count} teachers; gradients can be weighed for at most {MOST}.")
    if not tolerance * count >= 1:
        raise UserError(f"The tolerance is {tolerance:g}; expected at least 1/{count}, one part for each teacher.")
    p_s = (precise(student.detach()) / temperature).softmax(1)
    p_t = (precise(teachers.detach()) / temperature).softmax(2)
    gradients = temperature * (p_s - p_t).mean(1)
    return _least(gradients, tolerance).to(gradients)


@dataclass(frozen=True, kw_only=True)
class AEKD(Term):
    """Adaptive ensemble: soft targets of several teachers, weighted batch by batch so that their gradients agree.

    Attributes:
        temperature: T > 0.
        tolerance: The most that one teacher may count, from 1/M (then all count alike) to 1.
    """

    temperature: float = 4.0
    tolerance: float = 0.6

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Du et al. 2020, NeurIPS"
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        if not 0 < self.tolerance <= 1:
            raise UserError(f"The tolerance of {self.key!r} is {self.tolerance:g}; expected a share above 0, up to 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module | None:
        """Nothing; a single teacher, too many, or a tolerance that leaves no choice for so few is refused."""
        gradient_weights(student.logits, voices(self, teacher), tolerance=self.tolerance)
        return None

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`weighted_kd_loss` under `gradient_weights`."""
        said = voices(self, teacher)
        weights = gradient_weights(student.logits, said, temperature=self.temperature, tolerance=self.tolerance)
        return weighted_kd_loss(student.logits, said, weights, temperature=self.temperature)


def _least(gradients: Float[Tensor, "m k"], bound: float) -> Float[Tensor, " m"]:
    """The convex combination of the rows that is shortest, each share at most `bound`.

    Each share is at 0, at the bound, or free. For every such choice the conditions of a minimum are a linear system;
    the best of the solutions that keep within the bounds is the minimum.
    """
    # Apple's devices have no float64.
    count, device = len(gradients), torch.device("cpu") if gradients.is_mps else gradients.device
    rows = gradients.to(device, torch.float64)
    gram = rows @ rows.mT
    length = gram.trace()
    one = torch.eye(count, dtype=gram.dtype, device=device)
    gram = gram / length.masked_fill(length == 0, 1) + _RIDGE * one
    choices = [choice for choice in product((0.0, bound, None), repeat=count) if None in choice]
    free = torch.tensor([[share is None for share in choice] for choice in choices], device=device)
    fixed = torch.tensor([[share or 0.0 for share in choice] for choice in choices], dtype=gram.dtype, device=device)
    system = gram.new_zeros(len(choices), count + 1, count + 1)
    system[:, :count, :count] = torch.where(free.unsqueeze(2), gram, one)
    system[:, :count, count] = free.to(gram.dtype)
    system[:, count, :count] = 1
    right = torch.cat([fixed, torch.ones_like(fixed[:, :1])], 1)
    shares = cast(Tensor, torch.linalg.solve_ex(system, right).result)[:, :count]
    within = ((shares >= -_SLACK) & (shares <= bound + _SLACK)).all(1)
    lengths = torch.einsum("pi,ij,pj->p", shares, gram, shares).masked_fill(~within, torch.inf)
    return shares[lengths.argmin()].clamp(0, bound)
