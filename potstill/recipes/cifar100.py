"""CIFAR-100: every method on the field's standard recipe; the classifier that a student takes over from its teacher."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING

from potstill import published
from potstill.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from potstill.models import Network, ReusedHead
    from potstill.pairing import First, Pairing
    from potstill.run import Run
    from potstill.stage import Stage
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term
    from potstill.types import Companion


def benchmark(
    method: str = "kd", teacher: str = "resnet32x4", student: str = "resnet8x4", teacher_epochs: int = 240
) -> Sweep:
    """A method beside labels alone and soft targets, trained as in the tables of the field, with their numbers.

    Every pair of those tables has the weights that were published for it, another pair a method's usual ones. SGD with
    a momentum of 0.9 and a weight decay of 0.0005, batches of 64, 240 epochs with a tenth of the rate after 150, 180
    and 210, crops and flips. There are no validation images: every training image teaches, and the test split is read
    after the last epoch, where some of the published numbers are those of the best one, up to half a percent higher.
    An initialisation, where a method has one (ab, factor, fsp), adds 30 epochs. MLKD takes two views of each image, of
    the same crops and flips where its authors have RandAugment for the second, and 480 or 960 epochs.

    Args:
        method: One of kd, kd+ls, ctkd, dkd, dkd+ls, nkd, wsld, dist, ttm, wttm, wttm+crd, ofa, rld, mlkd, mlkd+ls, hint
            (FitNets), attention, nst, vid, ab, factor, fsp, ofd, review, simkd, srrl, semckd, catkd, mgd, afd, ickd,
            similarity, correlation, cckernel, rkd, pkt, crd, crd+kd; or all, for an arm of each. +ls: on standardized
            logits.
        teacher: A network of the own zoo, trained first, at a learning rate of 0.05.
        student: A network of the own zoo; MobileNets and ShuffleNets learn at 0.01, all others at 0.05.
        teacher_epochs: Length of the teacher's training.
    """
    from potstill.methods import Labels
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep

    pairing = _pairing(teacher, student)
    terms, first = pairing.methods(), pairing.initialisations()
    taught_by = _run(f"teacher-{teacher}", _network(teacher), _stage(teacher_epochs, 0.05, Labels()))
    rate = 0.01 if student.startswith(("mobilenet", "shufflenet")) else 0.05

    def arm(name: str, expected: float | None, *objective: Term) -> Arm:
        network = _network(student, pairing.reused if name == "simkd" else None)
        stages = [_stage(240, rate, *objective)]
        if name.startswith("mlkd"):
            longer = published.MULTI_LEVEL.get((teacher, student), published.Schedule())
            stages = [replace(_stage(240, longer.learning_rate, *objective), epochs=longer.epochs)]
        if name in first:
            stages.insert(0, _initial(first[name], rate))
        label = f"benchmark-{teacher}-{student}-{name.replace('+', '-')}"
        run = _run(label, network, *stages, teacher=result_of(taught_by))
        return Arm(name=name, run=run, published=expected)

    names = dict.fromkeys(("kd", *_chosen(method, pairing)))
    return Sweep(
        arms=(
            arm("labels", published.accuracy_from_labels(student), Labels()),
            *(arm(name, published.accuracy(name, teacher, student), *terms[name]) for name in names),
        ),
        seeds=(0, 1, 2),
        teachers=(Arm(name="teacher", run=taught_by, published=published.accuracy_from_labels(teacher)),),
    )


def simkd(
    teacher: str = "resnet32x4", student: str = "resnet8x4", teacher_epochs: int = 240, learning_rate: float = 0.05
) -> Sweep:
    """The reused teacher classifier, and what more projectors, another distance or fewer images change.

    One projector at the end, as published; two, after two thirds of the layers and at the end; one after every layer;
    and learning only where the teacher is right; each with the mean squared distance and with the divergence over
    channels. There are no validation images: every training image teaches, and the test split is read after the last
    epoch. Published for resnet32x4 → MobileNetV2x2 (`--student mobilenet_v2x2`): .7543; two projectors .7552 and .6688,
    only where the teacher is right .7541 and .6687, one after every layer .5323 and .7260.

    Args:
        teacher: A network of the own zoo, trained first.
        student: A network of the own zoo; its projector and the teacher's classifier ship with it.
        teacher_epochs: Length of the teacher's training.
        learning_rate: At the start, of teacher and students: 0.01 suits MobileNets and ShuffleNets.
    """
    from potstill.connect import Identity
    from potstill.methods import KD, Labels, SimKD
    from potstill.models import ReusedHead
    from potstill.pairing import Taps
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep

    taught_by = _run(f"teacher-{teacher}", _network(teacher), _stage(teacher_epochs, learning_rate, Labels()))
    ours, theirs = Taps.of(_network(student)), Taps.of(_network(teacher))
    reused = ReusedHead(student=ours.cut, teacher=theirs.stages[-1])
    # Stages that both have, but for the one at the end.
    earlier = [ours.stages[:-1], theirs.stages[:-1]]
    both = min(map(len, earlier))
    matches_source = (teacher, student) == ("resnet32x4", "mobilenet_v2x2")

    def arm(name: str, label: str, *terms: Term, head: ReusedHead | None = None, published: float | None = None) -> Arm:
        network, pair = _network(student, head), f"{teacher}-{student}"
        stage = _stage(240, learning_rate, *terms)
        run = _run(f"simkd-{pair}-{label}", network, stage, teacher=result_of(taught_by))
        return Arm(name=name, run=run, published=published if matches_source else None)

    arms = [
        arm("labels", "labels", Labels()),
        arm("soft targets", "kd", Labels(weight=0.1), KD(weight=0.9)),
    ]
    published: dict[str, tuple[float | None, float | None]] = {
        "one projector": (0.7543, None),
        "two projectors": (0.7552, 0.6688),
        "a projector per stage": (0.5323, 0.7260),
        "one, where the teacher is right": (0.7541, 0.6687),
    }
    inner = {"two projectors": slice(both - 1, both), "a projector per stage": slice(both)}
    for place, distance in enumerate(("l2", "kl")):
        for name, values in published.items():
            end = SimKD(
                student=("projected",),
                teacher=(theirs.stages[-1],),
                connector=Identity(),
                distance=distance,
                only_right="right" in name,
                name="end",
            )
            terms: tuple[Term, ...] = (end,)
            if name in inner:
                taps = [stages[inner[name]] for stages in earlier]
                terms = (end, SimKD(student=taps[0], teacher=taps[1], distance=distance, name="inner"))
            label = f"{name.replace(',', '').replace(' ', '-')}-{distance}"
            arms.append(arm(f"{name}, {distance.upper()}", label, *terms, head=reused, published=values[place]))
    return Sweep(
        arms=tuple(arms),
        seeds=(0, 1, 2),
        teachers=(Arm(name="teacher", run=taught_by, published=0.7942 if teacher == "resnet32x4" else None),),
    )


# What tables call wider ones of the zoo's: the zoo's name and the width.
_WIDER = {"mobilenet_v2x2": ("mobilenet_v2", 1.0), "shufflenet_v2x1.5": ("shufflenet_v2", 1.5)}


def _network(name: str, head: ReusedHead | None = None) -> Network:
    from potstill.models import Network

    if name in _WIDER:
        plain, width = _WIDER[name]
        return Network(plain, classes=100, options={"width": width}, reused=head)
    return Network(name, classes=100, reused=head)


def _stage(epochs: int, learning_rate: float, *terms: Term) -> Stage:
    """The field's standard recipe: SGD, a tenth of the rate after epochs 150, 180 and 210 of 240."""
    from potstill.optim import MultiStep, Optimizer
    from potstill.stage import Stage

    options = {"momentum": 0.9, "weight_decay": 5e-4}
    return Stage(
        terms=terms,
        epochs=240,
        optimizer=Optimizer(name="SGD", learning_rate=learning_rate, options=options),
        schedule=MultiStep(milestones=(150, 180, 210), gamma=0.1),
    ).scaled(epochs)


def _run(name: str, network: Network, *stages: Stage, teacher: Teacher | None = None) -> Run:
    from potstill.data import CropFlip, Data
    from potstill.run import Run

    return Run(
        name=f"cifar100-{name}",
        student=network,
        data=Data(name="cifar100", augment=CropFlip(), companion=_companion(stages)),
        stages=stages,
        teacher=teacher,
        batch_size=64,
    )


def _companion(stages: Iterable[Stage]) -> Companion | None:
    """What must come along with each image for the terms of these stages."""
    for stage in stages:
        for term in stage.terms:
            if term.companion is not None:
                return term.companion
    return None


def _pairing(teacher: str, student: str) -> Pairing:
    """The two networks.

    Raises:
        UserError: the own zoo has none of such a name, or it has too few layers to compare.
    """
    from potstill.models import names
    from potstill.pairing import Pairing, Taps

    known = (*names(), *_WIDER)
    for name in (teacher, student):
        if name not in known:
            raise UserError(f"There is no network {name!r} in the own zoo; {_near(name, known)}")
    pairing = Pairing(teacher, student, Taps.of(_network(teacher)), Taps.of(_network(student)))
    for name, taps in ((teacher, pairing.theirs), (student, pairing.ours)):
        if len(taps.stages) < 3:
            raise UserError(
                f"The network {name!r} has fewer than three stages to compare; give one for images of 32 × 32, "
                "resnet8x4 say."
            )
    return pairing


def _chosen(method: str, pairing: Pairing) -> tuple[str, ...]:
    """The methods that are meant: one, or all but those that cannot compare such networks.

    Raises:
        UserError: there is none of this name.
    """
    known = tuple(pairing.methods())
    if method == "all":
        return tuple(name for name in known if name not in pairing.unfit())
    if method in known:
        return (method,)
    meant = published.CALLED.get(method.lower())
    hint = f"did you mean {meant!r}?" if meant else _near(method, (*known, "all"))
    raise UserError(f"There is no method {method!r} in this benchmark; {hint}")


def _near(wrong: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(wrong.lower(), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}."


def _initial(first: First, learning_rate: float) -> Stage:
    """30 epochs at a constant rate."""
    from potstill.optim import Constant

    stage = _stage(240, learning_rate if first.learning_rate is None else first.learning_rate, first.term)
    return replace(stage, epochs=30, schedule=Constant(), train=first.train, name="initialisation")
