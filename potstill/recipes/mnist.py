"""Soft targets on MNIST: the first experiment that every course on distillation runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.errors import UserError

if TYPE_CHECKING:
    from potstill.data import Warp
    from potstill.run import Run
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep
    from potstill.term import Term

SEEDS = (42, 43, 44, 45, 46)


def hinton(temperature: float = 2.0, alpha: float = 0.8) -> Sweep:
    """Hard labels, soft targets, and both, on a student of 12,730 parameters.

    A convolutional teacher (1,199,882 parameters) and a student of one hidden layer of 16, trained on 48,000 images
    with early stopping on the other 12,000. Published test accuracies: teacher .99029, hard .94559, soft .94980,
    hard+soft .93910; the last with a divergence that was divided by the number of classes, an arm of its own here.
    Takes about twenty minutes on two CPU cores.

    Args:
        temperature: T of the soft targets.
        alpha: Share of the soft loss in hard+soft, from 0 to 1.
    """
    from potstill.methods import KD, Labels
    from potstill.sweep import Arm, Sweep

    _check(alpha)
    hard = Labels(weight=1 - alpha)
    soft = KD(weight=alpha, temperature=temperature)
    as_published = KD(weight=alpha, temperature=temperature, reduction="mean")
    settings = {"temperature": temperature, "alpha": alpha}
    return Sweep(
        arms=(
            Arm(name="hard", run=_student("hard", _stage(Labels())), published=0.94559),
            Arm(
                name="soft",
                run=_student("soft", _stage(KD(temperature=temperature))),
                published=0.94980,
                after="hard",
                change="soft targets for labels",
            ),
            Arm(
                name="hard+soft",
                run=_student("hard+soft", _stage(hard, soft)),
                settings=settings,
                after="soft",
                change="labels beside them",
            ),
            Arm(
                name="hard+soft, published reduction",
                run=_student("hard+soft-published", _stage(hard, as_published)),
                published=0.93910,
                settings=settings,
                after="hard+soft",
                change="divergence divided by the classes",
            ),
        ),
        seeds=SEEDS,
        teachers=(_teacher_arm(),),
    )


def hinton_grid(published_reduction: bool = False) -> Sweep:
    """Why hard+soft looked worst: the same student over temperature and share of the soft loss.

    Args:
        published_reduction: Divide the divergence by the number of classes, as the published experiment did.
    """
    from potstill.methods import KD, Labels
    from potstill.sweep import Arm, Sweep

    reduction = "mean" if published_reduction else "batchmean"
    suffix = "-published" if published_reduction else ""
    arms = [
        Arm(
            name=f"T {temperature:g}, α {alpha:g}",
            run=_student(
                f"grid{suffix}-T{temperature:g}-a{alpha:g}",
                _stage(
                    Labels(weight=round(1 - alpha, 10)),
                    KD(weight=alpha, temperature=temperature, reduction=reduction),
                ),
            ),
            settings={"temperature": temperature, "alpha": alpha},
        )
        for temperature in (1.0, 2.0, 4.0, 8.0, 16.0)
        for alpha in (0.2, 0.5, 0.8, 0.95, 1.0)
    ]
    return Sweep(arms=tuple(arms), seeds=SEEDS[:3], teachers=(_teacher_arm(),))


def hinton_best(temperature: float = 2.0) -> Sweep:
    """How far the same 12,730 parameters go with the same teacher, one change at a time.

    First 100 epochs on all 60,000 training images; then the teacher's answers instead of the labels; then slightly
    warped images, which the teacher labels as they are shown: ten views of each.

    Args:
        temperature: T of the soft targets.
    """
    from potstill.data import Data, Warp
    from potstill.methods import KD, Labels
    from potstill.models import Network
    from potstill.optim import Cosine, Optimizer
    from potstill.run import Run, result_of
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep

    def arm(name: str, term: Term, warp: Warp | None = None, after: str | None = None, change: str = "") -> Arm:
        optimizer = Optimizer(name="Adam", learning_rate=2e-3)
        run = Run(
            name=f"mnist-hinton-best-{name}",
            student=Network("mnist_mlp", classes=10, channels=1),
            data=Data(name="mnist", augment=warp, views=None if warp is None else 10),
            stages=(Stage(terms=(term,), epochs=100, optimizer=optimizer, schedule=Cosine()),),
            teacher=result_of(_teacher()),
            batch_size=64,
            seed=42,
            precision="fp32",
        )
        return Arm(name=name, run=run, after=after, change=change)

    slight = Warp(rotation=5.0, scale=0.05, shift=0.5)
    arms = (
        arm("labels, long", Labels()),
        arm("soft, long", KD(temperature=temperature), None, "labels, long", "soft targets for labels"),
        arm("soft, long, warped", KD(temperature=temperature), slight, "soft, long", "warped images"),
    )
    return Sweep(arms=arms, seeds=SEEDS, teachers=(_teacher_arm(),))


def _check(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha is {alpha:g}; expected a share of the soft loss from 0 to 1.")


def _stage(*terms: object) -> Stage:
    from potstill.optim import Optimizer
    from potstill.stage import EarlyStopping, Stage

    return Stage(
        terms=terms,  # type: ignore[arg-type]
        epochs=10,
        optimizer=Optimizer(name="Adam", learning_rate=1e-3),
        stop=EarlyStopping(monitor="validation_loss", min_delta=1e-4, patience=2),
    )


def _student(name: str, stage: Stage) -> Run:
    from potstill.data import Data
    from potstill.models import Network
    from potstill.run import Run, result_of

    return Run(
        name=f"mnist-hinton-{name}",
        student=Network("mnist_mlp", classes=10, channels=1),
        data=Data(name="mnist", validation=0.2),
        stages=(stage,),
        teacher=result_of(_teacher()),
        batch_size=64,
        seed=42,
        precision="fp32",
    )


def _teacher() -> Run:
    from potstill.data import Data
    from potstill.methods import Labels
    from potstill.models import Network
    from potstill.optim import Optimizer, Step
    from potstill.run import Run
    from potstill.stage import Stage

    return Run(
        name="mnist-hinton-teacher",
        student=Network("mnist_conv", classes=10, channels=1),
        data=Data(name="mnist", validation=0.2),
        stages=(
            Stage(
                terms=(Labels(),),
                epochs=5,
                optimizer=Optimizer(name="Adadelta", learning_rate=1.0),
                schedule=Step(every=1, gamma=0.7),
            ),
        ),
        batch_size=64,
        seed=42,
        precision="fp32",
    )


def _teacher_arm() -> Arm:
    from potstill.sweep import Arm

    return Arm(name="teacher", run=_teacher(), published=0.99029)
