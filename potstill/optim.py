"""Optimizers and learning-rate schedules as plain data."""

import abc
import difflib
import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import nn

from potstill.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Any optimizer of `torch.optim`, by name.

    Attributes:
        name: The class's name there: "SGD", "Adam", "AdamW", "Adadelta", …
        learning_rate: Peak learning rate; the schedule multiplies it.
        options: Further keyword arguments of that class: {"momentum": 0.9, "weight_decay": 5e-4}.
    """

    name: str = "SGD"
    learning_rate: float = 0.05
    options: dict[str, bool | int | float] = field(default_factory=dict[str, bool | int | float])

    def __post_init__(self) -> None:
        known = _optimizers()
        if self.name not in known:
            near = difflib.get_close_matches(self.name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}."
            raise UserError(f"torch.optim has no optimizer {self.name!r}; {hint}")
        if self.name in _UNSUITED:
            raise UserError(
                f"torch.optim.{self.name} cannot train here: {_UNSUITED[self.name]}; name another, SGD say."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"The learning rate is {self.learning_rate:g}; expected a number > 0.")
        accepted = inspect.signature(known[self.name]).parameters
        for option in self.options:
            if option not in accepted:
                near = difflib.get_close_matches(option, accepted, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(list(accepted)[2:])}."
                raise UserError(f"torch.optim.{self.name} has no option {option!r}; {hint}")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over these parameters, fused where it can be: one kernel, and no read-back of its counters."""
        kind = _optimizers()[self.name]
        parameters = list(parameters)
        options = dict(self.options)
        if "fused" in inspect.signature(kind).parameters and "fused" not in options and not options.get("foreach"):
            options["fused"] = all(torch.is_floating_point(p) and p.device.type in _FUSED for p in parameters)
        try:
            return kind(parameters, lr=self.learning_rate, **options)  # type: ignore[call-arg]
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"torch.optim.{self.name} refused its options {options}: {error}.") from None


_FUSED = ("cpu", "cuda", "mps")

_UNSUITED = MappingProxyType(
    {
        "LBFGS": "it evaluates the loss several times a step",
        "SparseAdam": "it takes sparse gradients only",
    }
)


def _optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    return {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }


@dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    """A factor of the learning rate as a pure function of how far a stage has come."""

    @abc.abstractmethod
    def factor(self, epoch: float, epochs: int) -> float:
        """The factor after `epoch` epochs (with a fraction) of a stage that lasts `epochs`."""

    def scaled(self, ratio: float) -> "Schedule":
        """The same shape over a stage `ratio` times as long; lengths in epochs follow, shares stay."""
        return self


def _stretched(epochs: float, ratio: float) -> float:
    """A length times a ratio, where 50 × 14/100 is 7 and not a trifle more, which would drop the rate a step late."""
    return round(epochs * ratio, 9)


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The learning rate as it is."""

    def factor(self, epoch: float, epochs: int) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """× `gamma` after every `every` epochs."""

    every: float = 1.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.every < float("inf"):
            raise UserError(f"The step schedule drops every {self.every:g} epochs; expected a number > 0.")

    def factor(self, epoch: float, epochs: int) -> float:
        """γ to the number of whole periods so far."""
        return self.gamma ** math.floor(epoch / self.every)

    def scaled(self, ratio: float) -> Schedule:
        """Periods shrink and grow with the stage."""
        return replace(self, every=_stretched(self.every, ratio))


@dataclass(frozen=True, kw_only=True)
class MultiStep(Schedule):
    """× `gamma` at each milestone, in epochs: (150, 180, 210) of 240 is the field's CIFAR recipe."""

    milestones: tuple[float, ...]
    gamma: float = 0.1

    def factor(self, epoch: float, epochs: int) -> float:
        """γ to the number of milestones reached."""
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)

    def scaled(self, ratio: float) -> Schedule:
        """Milestones move with the stage."""
        return replace(self, milestones=tuple(_stretched(milestone, ratio) for milestone in self.milestones))


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 to `final` over the stage (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts)."""

    final: float = 0.0

    def factor(self, epoch: float, epochs: int) -> float:
        """1 at the start, `final` at the end."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(epoch / epochs, 1.0))) / 2


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up to the peak and down again in two half cosines (Smith & Topin 2018, arXiv:1708.07120).

    Attributes:
        peak: Share of the stage at which the peak stands.
        start: Factor at the start.
        final: Factor at the end.
    """

    peak: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        if not 0 < self.peak < 1:
            raise UserError(
                f"The peak of the one-cycle schedule is at {self.peak:g}; expected a share between 0 and 1."
            )

    def factor(self, epoch: float, epochs: int) -> float:
        """`start` at the start, 1 at the peak, `final` at the end."""
        share = min(epoch / epochs, 1.0)
        if share < self.peak:
            low, high, way = self.start, 1.0, share / self.peak
        else:
            low, high, way = 1.0, self.final, (share - self.peak) / (1 - self.peak)
        return high + (low - high) * (1 + math.cos(math.pi * way)) / 2


@dataclass(frozen=True, kw_only=True)
class Warmup(Schedule):
    """A linear rise from `start` to 1 over the first `epochs` epochs, on top of another schedule."""

    then: Schedule
    epochs: float = 5.0
    start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.epochs < float("inf"):
            raise UserError(f"The warm-up lasts {self.epochs:g} epochs; expected a number > 0.")

    def factor(self, epoch: float, epochs: int) -> float:
        """The rise times the other schedule's factor."""
        rise = min(self.start + (1 - self.start) * epoch / self.epochs, 1.0)
        return rise * self.then.factor(epoch, epochs)

    def scaled(self, ratio: float) -> Schedule:
        """The rise and what follows both keep their share."""
        return replace(self, epochs=_stretched(self.epochs, ratio), then=self.then.scaled(ratio))
