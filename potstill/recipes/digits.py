"""The embedded default: scikit-learn's handwritten digits, nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.errors import UserError

if TYPE_CHECKING:
    from potstill.models import Network
    from potstill.run import Run
    from potstill.sweep import Sweep
    from potstill.term import Term


def quickstart(temperature: float = 4.0, alpha: float = 0.9) -> Sweep:
    """Labels, soft targets, and both, on 1,797 handwritten digits of 8 × 8.

    A convolutional teacher and a student a tenth of its size; five seeds, about half a minute on two CPU cores.

    Args:
        temperature: T of the soft targets.
        alpha: Share of the soft loss in hard+soft, from 0 to 1.
    """
    from potstill.methods import KD, Labels
    from potstill.models import Network
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep

    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha is {alpha:g}; expected a share of the soft loss from 0 to 1.")
    teacher = _run("teacher", Network("digits_conv", classes=10, channels=1), 30, Labels())

    def student(name: str, *terms: Term) -> Run:
        network = Network("digits_conv", classes=10, channels=1, options={"width": 4})
        return _run(name, network, 20, *terms, teacher=result_of(teacher))

    hard, soft = Labels(weight=round(1 - alpha, 10)), KD(weight=alpha, temperature=temperature)
    return Sweep(
        arms=(
            Arm(name="labels", run=student("labels", Labels())),
            Arm(name="soft", run=student("soft", KD(temperature=temperature))),
            Arm(name="hard+soft", run=student("hard+soft", hard, soft)),
        ),
        teachers=(Arm(name="teacher", run=teacher),),
    )


def _run(name: str, network: Network, epochs: int, *terms: Term, teacher: object = None) -> Run:
    from potstill.data import CropFlip, Data
    from potstill.optim import Cosine, Optimizer
    from potstill.run import Run
    from potstill.stage import Stage

    return Run(
        name=f"digits-quickstart-{name}",
        student=network,
        data=Data(name="digits", validation=0.1, augment=CropFlip(padding=1, flip=False)),
        stages=(
            Stage(
                terms=terms,
                epochs=epochs,
                optimizer=Optimizer(name="SGD", learning_rate=0.1, options={"momentum": 0.9, "weight_decay": 5e-4}),
                schedule=Cosine(),
            ),
        ),
        teacher=teacher,  # type: ignore[arg-type]
        batch_size=64,
        precision="fp32",
    )
