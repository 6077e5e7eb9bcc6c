"""What speed costs in accuracy: a recipe of its own, for `potstill run benchmarks/accuracy.py:accuracy`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.run import Run
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term

EPOCHS = 10


def accuracy(teacher_epochs: int = 15) -> Sweep:
    """Does speed cost accuracy? bf16 against fp32, and views shared by all seeds against a walk of each seed's own.

    A teacher of plain convolutions (298,000 parameters) and a student of 76,000 on CIFAR-10, on labels alone and with
    soft targets. That the teacher's answers are kept needs no arm: they are the same to the last bit. The numbers are
    accuracies on the test images after the last epoch; what counts is how the differences compare with the spread.

    Args:
        teacher_epochs: Length of the teacher's training.
    """
    from potstill.data import CropFlip, Data
    from potstill.methods import KD, Labels
    from potstill.models import Network
    from potstill.optim import Cosine, Optimizer
    from potstill.run import Run, result_of
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep

    optimizer = Optimizer(name="SGD", learning_rate=0.05, options={"momentum": 0.9, "weight_decay": 5e-4})

    def run(label: str, width: int, length: int, *terms: Term, teacher: Teacher | None = None) -> Run:
        return Run(
            name=f"accuracy-{label}",
            student=Network("plain_conv", classes=10, options={"width": width}),
            data=Data(name="cifar10", augment=CropFlip()),
            stages=(Stage(terms=terms, epochs=length, optimizer=optimizer, schedule=Cosine()),),
            teacher=teacher,
            batch_size=128,
            precision="fp32",
        )

    teacher = run("teacher", 32, teacher_epochs, Labels())
    taught = run("soft", 16, EPOCHS, Labels(weight=0.1), KD(weight=0.9, temperature=4.0), teacher=result_of(teacher))
    alone = run("labels", 16, EPOCHS, Labels())

    def arms(what: str, base: Run) -> tuple[Arm, ...]:
        own = replace(base.data, sharing="per-seed")
        first = f"{what}, fp32, shared views"
        return (
            Arm(name=first, run=base),
            Arm(name=f"{what}, bf16, shared views", run=replace(base, precision="bf16"), after=first, change="bf16"),
            Arm(
                name=f"{what}, fp32, views per seed",
                run=replace(base, data=own),
                after=first,
                change="each seed's own views",
            ),
        )

    return Sweep(
        arms=(*arms("soft targets", taught), *arms("labels", alone)),
        seeds=(0, 1, 2, 3, 4),
        teachers=(Arm(name="teacher", run=teacher),),
        margin=0.005,
    )
