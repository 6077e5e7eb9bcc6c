"""Hints in two stages; responses beside features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from potstill.recipes.cifar10 import parts
from potstill.recipes.cifar10.parts import hard_and_soft

if TYPE_CHECKING:
    from potstill.connect import Connector
    from potstill.run import Run
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term


def fitnets(temperature: float = 4.0, alpha: float = 0.9, teacher_epochs: int = 50) -> Sweep:
    """FitNets in two stages: does the regressor help, and must the lower part stay free?

    A plain convolutional teacher (1.34 M parameters) and a student less than half as wide (298,000), whose second
    stages end in equally many channels, so that the hint can do without a regressor. Where there is a hint it has the
    first fifth of the epochs. A tenth of the training images is for validation. Published for unnamed networks of such
    sizes, validation accuracy: teacher .8709, labels .8399, soft targets .8405, lower part frozen after the hint .8064,
    all free .8636; a difference counts from .008 on.

    Args:
        temperature: T of the soft targets.
        alpha: Share of the soft loss beside the labels, from 0 to 1.
        teacher_epochs: Length of the teacher's training.
    """
    from potstill.connect import Identity, Regressor
    from potstill.methods import Hint, Labels
    from potstill.models import Network
    from potstill.optim import Cosine, Optimizer
    from potstill.run import result_of
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep

    def stage(epochs: int, *terms: Term, train: tuple[str, ...] = ("*",), name: str = "train") -> Stage:
        return parts.stage(epochs, 0.05, Cosine(), *terms, train=train, name=name)

    wide = Network("plain_conv", classes=10, options={"width": 77, "middle": 64})
    teacher = parts.run("fitnets-teacher", wide, stage(teacher_epochs, Labels()), validation=0.1)
    soft = hard_and_soft(alpha, temperature)
    lower = ("student.stem.*", "student.stage1.*", "student.stage2.*")
    upper = ("student.stage3.*", "student.fc.*")

    def hinted(connector: Connector, *train: str) -> Stage:
        # The paper's RMSprop or its like: plain gradients of a mean over all elements hardly move the lower part.
        optimizer = Optimizer(name="Adam", learning_rate=2e-3)
        terms = (Hint(weight=1.0, connector=connector),)
        return Stage(terms=terms, epochs=10, optimizer=optimizer, schedule=Cosine(), train=train, name="hint")

    regressed = hinted(Regressor(norm=False, relu=False), *lower, "learned.hint.*")
    direct = hinted(Identity(), *lower)
    frozen, free = stage(40, *soft, train=upper, name="kd"), stage(40, *soft, name="kd")

    def arm(
        name: str,
        label: str,
        *stages: Stage,
        published: float | None = None,
        after: str | None = None,
        change: str = "",
    ) -> Arm:
        run = parts.run(
            f"fitnets-{label}",
            Network("plain_conv", classes=10),
            *stages,
            teacher=result_of(teacher),
            validation=0.1,
        )
        return Arm(name=name, run=run, published=published, after=after, change=change)

    return Sweep(
        arms=(
            arm("labels", "labels", stage(50, Labels()), published=0.8399),
            arm(
                "soft targets",
                "kd",
                stage(50, *soft),
                published=0.8405,
                after="labels",
                change="soft targets beside labels",
            ),
            arm(
                "hint, then frozen",
                "frozen",
                regressed,
                frozen,
                published=0.8064,
                after="hint, then free",
                change="lower part frozen",
            ),
            arm(
                "hint, then free",
                "free",
                regressed,
                free,
                published=0.8636,
                after="soft targets",
                change="a hint first",
            ),
            arm(
                "hint without regressor, then frozen",
                "direct-frozen",
                direct,
                frozen,
                after="hint, then frozen",
                change="no regressor (frozen)",
            ),
            arm(
                "hint without regressor, then free",
                "direct-free",
                direct,
                free,
                after="hint, then free",
                change="no regressor (free)",
            ),
        ),
        seeds=(0, 1, 2),
        teachers=(Arm(name="teacher", run=teacher, published=0.8709),),
        margin=0.008,
    )


def lab5(stem: Literal["imagenet", "cifar"] = "imagenet", teacher_epochs: int = 60) -> Sweep:
    """ResNet-34 teaches ResNet-18: responses over T and α, and features matched in distribution.

    Published test accuracies: teacher .8830, labels .8778, best response .8929 (T 4, α .4), best feature .8833 (maximum
    mean discrepancy at the four stages, deeper ones weighing more).

    Args:
        stem: "imagenet" as torchvision builds them, which suits small machines; "cifar" has a 3×3 stem without pooling.
        teacher_epochs: Length of the teacher's training.
    """
    from potstill.methods import MMD, Labels
    from potstill.models import Network
    from potstill.optim import OneCycle
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep

    prefix = "torchvision:" if stem == "imagenet" else ""

    def run(name: str, network: str, epochs: int, *terms: Term, teacher: Teacher | None = None) -> Run:
        stage = parts.stage(epochs, 0.1, OneCycle(), *terms)
        return parts.run(f"lab5-{stem}-{name}", Network(prefix + network, classes=10), stage, teacher=teacher)

    taught_by = run("teacher", "resnet34", teacher_epochs, Labels())

    def arm(name: str, label: str, *terms: Term, published: float | None = None, **settings: float) -> Arm:
        made = run(label, "resnet18", 60, *terms, teacher=result_of(taught_by))
        return Arm(name=name, run=made, published=published, settings=settings)

    def response(temperature: float, alpha: float, published: float) -> Arm:
        name, label = f"response, T {temperature:g}, α {alpha:g}", f"kd-T{temperature:g}-a{alpha:g}"
        soft = hard_and_soft(alpha, temperature)
        return arm(name, label, *soft, published=published, temperature=temperature, alpha=alpha)

    taps = ("stage1", "stage2", "stage3", "stage4")
    equal, deeper = (0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4)

    def feature(layers: tuple[float, ...], alpha: float, published: float | None = None) -> Arm:
        told, short = ("equal", "equal") if layers == equal else ("deeper more", "deeper")
        terms: list[Term] = [MMD(weight=alpha, student=taps, teacher=taps, layers=layers)]
        if alpha < 1:
            terms.append(Labels(weight=round(1 - alpha, 10)))
        name = f"feature, {told}, α {alpha:g}" if alpha < 1 else "feature, without labels"
        return arm(name, f"mmd-{short}-a{alpha:g}", *terms, published=published)

    return Sweep(
        arms=(
            arm("labels", "labels", Labels(), published=0.8778),
            response(3.0, 0.5, 0.8832),
            response(4.0, 0.5, 0.8882),
            response(5.0, 0.5, 0.8787),
            response(4.0, 0.4, 0.8929),
            response(4.0, 0.6, 0.8795),
            feature(equal, 0.4, 0.8698),
            feature(equal, 0.5, 0.8772),
            feature(equal, 0.6, 0.8746),
            feature(deeper, 0.5, 0.8833),
            feature(equal, 1.0),
        ),
        seeds=(0, 1),
        teachers=(Arm(name="teacher", run=taught_by, published=0.8830),),
    )
