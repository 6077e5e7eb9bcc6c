"""Curriculum temperature.

Zheng Li, Xiang Li, Lingfeng Yang, Borui Zhao, Renjie Song, Lei Luo, Jun Li, Jian Yang: Curriculum Temperature for
Knowledge Distillation. AAAI 2023, arXiv:2211.16231 (the global temperature).

One number θ is learned against the student: its gradient is reversed, by a factor that grows over the first epochs,
so the task grows harder. It starts at 1 (T ≈ 15.6) and, like the student, is subject to weight decay.

Errata: the gradient of the temperature flows through T² too, as in the authors' code; the temperature per image of
the paper, from a small network, is not in their repository. The usual weights are 0.9 here and 0.1 for the labels.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.divergence import expect_factor, softened_kl, standardize
from potstill.errors import UserError
from potstill.term import Knowledge, Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def ctkd_temperature(theta: Float[Tensor, ""], *, start: float = 1.0, span: float = 20.0) -> Float[Tensor, ""]:
    """T = start + span · σ(θ).

    Args:
        theta: θ, any number.
        start: The least temperature.
        span: How much higher the highest is.
    """
    return start + span * theta.sigmoid()


def reverse_gradient(x: Float[Tensor, "..."], scale: float) -> Float[Tensor, "..."]:
    """The same values; the gradient is multiplied by −scale on its way back."""
    return _Reversed.apply(x, scale)  # pyright: ignore[reportReturnType]


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


class Theta(nn.Module):
    """The number that is learned.

    Attributes:
        theta: θ, a scalar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(1.0))


@dataclass(frozen=True, kw_only=True)
class CTKD(Term):
    """Soft targets whose temperature is learned against the student.

    Attributes:
        start: The least temperature, > 0.
        span: How much higher the highest is.
        ramp: Epochs until the gradient of θ is fully reversed.
        standardize: Whether both sides' logits are standardized first (Sun et al. 2024, arXiv:2403.01427).
    """

    weight: float = 0.9
    start: float = 1.0
    span: float = 20.0
    ramp: float = 10.0
    standardize: bool = False

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Li et al. 2023, arXiv:2211.16231"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_factor(self.key, "span", self.span)
        if not 0 < self.start < float("inf"):
            raise UserError(f"The least temperature of {self.key!r} is {self.start:g}; expected a number > 0.")
        if not 0 < self.ramp < float("inf"):
            raise UserError(f"The ramp of {self.key!r} is {self.ramp:g} epochs; expected a number > 0.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """θ, at 1."""
        return Theta()

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """Softened divergence at the temperature of now."""
        assert isinstance(learned, Theta)
        own, answer = student.logits, expect_teacher(self, teacher).logits
        if self.standardize:
            own, answer = standardize(own), standardize(answer)
        theta = reverse_gradient(learned.theta, self.scale_at(progress))
        temperature = ctkd_temperature(theta, start=self.start, span=self.span)
        return softened_kl(own, answer, temperature=temperature)

    def scaled(self, ratio: float) -> Term:
        """The ramp keeps its share too."""
        return replace(super().scaled(ratio), ramp=self.ramp * ratio)

    def scale_at(self, progress: Progress) -> float:
        """The factor of the reversal: ½(1 − cos(π · min(e + 1, ramp)/ramp)) in epoch e, from 0."""
        return 0.5 * (1 - math.cos(math.pi * min(int(progress.epoch) + 1, self.ramp) / self.ramp))
