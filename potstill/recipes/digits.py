"""The embedded default: scikit-learn's handwritten digits, nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.errors import UserError

if TYPE_CHECKING:
    from potstill.models import Network
    from potstill.run import Run
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term


def quickstart(temperature: float = 4.0, alpha: float = 0.9) -> Sweep:
    """Every kind of knowledge on 1,797 handwritten digits of 8 × 8.

    A convolutional teacher and a student a fourteenth of its size, which learns from labels, from the teacher's
    responses, from its features (FitNets in two stages; MMD) and from relations between its answers. Every arm lasts 20
    epochs; five seeds take under a minute on two CPU cores.

    Args:
        temperature: T of the soft targets.
        alpha: Share of the soft loss in hard+soft and in the second stage of FitNets, from 0 to 1.
    """
    from potstill.connect import Regressor
    from potstill.methods import KD, MMD, RKD, Hint, Labels
    from potstill.models import Network
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep

    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha is {alpha:g}; expected a share of the soft loss from 0 to 1.")
    teacher = _run("teacher", Network("digits_conv", classes=10, channels=1), _stage(30, Labels()))

    def arm(name: str, *stages: Stage, after: str | None = None, change: str = "") -> Arm:
        network = Network("digits_conv", classes=10, channels=1, options={"width": 4})
        run = _run(name, network, *stages, teacher=result_of(teacher))
        return Arm(name=name, run=run, after=after, change=change)

    hard_and_soft = Labels(weight=round(1 - alpha, 10)), KD(weight=alpha, temperature=temperature)
    lower = ("student.stage1.*", "student.stage2.*", "learned.hint.*")
    hint = Hint(weight=1.0, connector=Regressor(norm=False, relu=False))
    return Sweep(
        arms=(
            arm("labels", _stage(20, Labels())),
            arm("soft", _stage(20, KD(temperature=temperature))),
            arm("hard+soft", _stage(20, *hard_and_soft), after="labels", change="soft targets beside labels"),
            arm(
                "fitnets",
                _stage(5, hint, train=lower, name="hint"),
                _stage(15, *hard_and_soft, name="kd"),
                after="hard+soft",
                change="a hint first",
            ),
            arm("mmd", _stage(20, Labels(), MMD(weight=0.05))),
            arm("relational", _stage(20, Labels(), RKD(weight=0.04))),
        ),
        teachers=(Arm(name="teacher", run=teacher),),
    )


def _stage(epochs: int, *terms: Term, train: tuple[str, ...] = ("*",), name: str = "train") -> Stage:
    from potstill.optim import Cosine, Optimizer
    from potstill.stage import Stage

    optimizer = Optimizer(name="SGD", learning_rate=0.1, options={"momentum": 0.9, "weight_decay": 5e-4})
    return Stage(terms=terms, epochs=epochs, optimizer=optimizer, schedule=Cosine(), train=train, name=name)


def _run(name: str, network: Network, *stages: Stage, teacher: Teacher | None = None) -> Run:
    from potstill.data import CropFlip, Data
    from potstill.run import Run

    return Run(
        name=f"digits-quickstart-{name}",
        student=network,
        data=Data(name="digits", validation=0.1, augment=CropFlip(padding=1, flip=False)),
        stages=stages,
        teacher=teacher,
        batch_size=64,
        precision="fp32",
    )
