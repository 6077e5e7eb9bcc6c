"""A stage: what is minimised, by what, for how long, and which parameters move."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from potstill.errors import UserError, expect_all
from potstill.optim import Constant, Optimizer, Schedule
from potstill.term import Term

Monitor = Literal["validation_loss", "validation_nll", "validation_accuracy"]


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """End the stage when validation has not improved for a while.

    Attributes:
        monitor: "validation_loss" is the stage's own objective on the validation split, "validation_nll" the
            cross-entropy there, "validation_accuracy" the share of right answers (the only one to rise).
        min_delta: Least change that counts as an improvement.
        patience: Epochs without one after which the stage ends.
    """

    monitor: Monitor = "validation_loss"
    min_delta: float = 0.0
    patience: int = 2

    def __post_init__(self) -> None:
        if self.monitor not in get_args(Monitor):
            raise UserError(f"Early stopping watches {self.monitor!r}; expected one of {', '.join(get_args(Monitor))}.")
        if self.patience < 1:
            raise UserError(f"The patience of early stopping is {self.patience}; expected a whole number ≥ 1.")
        if not 0 <= self.min_delta < float("inf"):
            raise UserError(f"The min_delta of early stopping is {self.min_delta:g}; expected a number ≥ 0.")

    def improved(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best` by more than `min_delta`."""
        if best is None:
            return True
        gain = value - best if self.monitor == "validation_accuracy" else best - value
        return gain > self.min_delta


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of a training with one objective.

    Attributes:
        terms: The parts of the objective; their weighted losses are added.
        epochs: Length, ≥ 1.
        optimizer: Made anew for each stage.
        schedule: Factor of the learning rate over the stage.
        train: Globs over parameter names (`student.…`, `learned.<term>.…`) that move; all others are frozen.
        stop: Early stopping, if any.
        name: Label in metrics and figures.
    """

    terms: tuple[Term, ...]
    epochs: int
    optimizer: Optimizer
    schedule: Schedule = Constant()
    train: tuple[str, ...] = ("*",)
    stop: EarlyStopping | None = None
    name: str = "train"

    def __post_init__(self) -> None:
        expect_all(self.terms, Term, f"The terms of the stage {self.name!r} are", "terms, such as Labels()")
        if self.epochs < 1:
            raise UserError(f"The stage {self.name!r} lasts {self.epochs} epochs; expected a whole number ≥ 1.")
        if not self.terms:
            raise UserError(f"The stage {self.name!r} has no terms; give it at least one, Labels() say.")
        keys = [term.key for term in self.terms]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"Two terms of the stage {self.name!r} are called {key!r}; give one another name=.")
            if "." in key or "/" in key:
                raise UserError(f"A term is called {key!r}; expected a name without '.' and '/'.")

    def scaled(self, epochs: int) -> "Stage":
        """The same stage over another number of epochs: what schedule and terms count in epochs keeps its share."""
        ratio = epochs / self.epochs
        terms = tuple(term.scaled(ratio) for term in self.terms)
        return replace(self, epochs=epochs, schedule=self.schedule.scaled(ratio), terms=terms)
