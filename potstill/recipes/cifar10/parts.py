"""What the recipes on CIFAR-10 are put together from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.errors import UserError

if TYPE_CHECKING:
    from potstill.models import Network
    from potstill.optim import Schedule
    from potstill.run import Run
    from potstill.stage import Stage
    from potstill.teachers import Teacher
    from potstill.term import Term
    from potstill.types import Companion


def hard_and_soft(alpha: float, temperature: float) -> tuple[Term, Term]:
    """Labels and soft targets that share a weight of 1."""
    from potstill.methods import KD, Labels

    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha is {alpha:g}; expected a share of the soft loss from 0 to 1.")
    return Labels(weight=round(1 - alpha, 10)), KD(weight=alpha, temperature=temperature)


def stage(
    epochs: int,
    learning_rate: float,
    schedule: Schedule,
    *terms: Term,
    train: tuple[str, ...] = ("*",),
    name: str = "train",
) -> Stage:
    """A stage of SGD with momentum 0.9 and weight decay 5e-4."""
    from potstill.optim import Optimizer
    from potstill.stage import Stage

    options = {"momentum": 0.9, "weight_decay": 5e-4}
    optimizer = Optimizer(name="SGD", learning_rate=learning_rate, options=options)
    return Stage(terms=terms, epochs=epochs, optimizer=optimizer, schedule=schedule, train=train, name=name)


def run(
    name: str,
    network: Network,
    *stages: Stage,
    teacher: Teacher | None = None,
    validation: float = 0.0,
    companion: Companion | None = None,
) -> Run:
    """A run on CIFAR-10, shifted and mirrored, in batches of 128."""
    from potstill.data import CropFlip, Data
    from potstill.run import Run

    return Run(
        name=f"cifar10-{name}",
        student=network,
        data=Data(name="cifar10", validation=validation, augment=CropFlip(), companion=companion),
        stages=stages,
        teacher=teacher,
        batch_size=128,
    )
