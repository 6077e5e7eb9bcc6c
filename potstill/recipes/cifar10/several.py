"""Several teachers at once, and one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from potstill.recipes.cifar10 import parts

if TYPE_CHECKING:
    from potstill.models import Network
    from potstill.run import Run
    from potstill.sweep import Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term

EPOCHS = 50


def multi_teacher(temperature: float = 4.0, teacher_epochs: int = 50) -> Sweep:
    """Three teachers: is their company better than the best of them?

    Teachers of one architecture (plain convolutions, 1.19 M parameters) that differ by their seeds, and a student of
    298,000. Each teacher by itself; the mean of their logits; their losses averaged, weighed by the entropy of what
    they say, by how their gradients agree, and by how near to the label each is on each image, features included; their
    answers under weights that are learned. A tenth of the training images is for validation.

    Args:
        temperature: T of the soft targets.
        teacher_epochs: Length of the teachers' training.
    """
    from potstill.methods import AEKD, AMTML, AVER, CAMKD, EBKD, KD, Labels
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import Ensemble

    wide = _plain(64)
    trained = [
        replace(_run(f"multi-teacher-{seed}", wide, Labels(), epochs=teacher_epochs), seed=seed) for seed in (0, 1, 2)
    ]
    single = [result_of(run) for run in trained]
    all_three = Ensemble(tuple(single))

    def arm(
        name: str,
        label: str,
        *terms: Term,
        teacher: Teacher | None = all_three,
        after: str | None = "losses averaged",
        change: str = "",
    ) -> Arm:
        run = _run(f"multi-{label}", _plain(32), Labels(), *terms, teacher=teacher)
        return Arm(name=name, run=run, after=after, change=change)

    kd = KD(temperature=temperature)
    members = tuple(f"{place}/stage3" for place in range(3))
    return Sweep(
        arms=(
            arm("labels", "labels", teacher=None, after=None),
            *(
                arm(f"teacher {n} alone", f"single-{n}", kd, teacher=each, after=None)
                for n, each in enumerate(single, start=1)
            ),
            arm("mean of logits", "logits", kd, after="teacher 1 alone", change="two more teachers"),
            arm(
                "losses averaged",
                "aver",
                AVER(temperature=temperature),
                after="mean of logits",
                change="losses averaged, not logits",
            ),
            arm("weighed by entropy", "ebkd", EBKD(temperature=temperature), change="weights by entropy"),
            arm("weighed by gradients", "aekd", AEKD(temperature=temperature), change="weights by gradients"),
            arm(
                "weighed by confidence, with features",
                "camkd",
                CAMKD(temperature=temperature, student=("stage3",), teacher=members),
                change="weights by confidence, and features",
            ),
            arm(
                "weighed by what is learned",
                "amtml",
                AMTML(temperature=temperature),
                change="weights that are learned",
            ),
        ),
        seeds=(0, 1, 2),
        teachers=tuple(Arm(name=f"teacher {n}", run=run) for n, run in enumerate(trained, start=1)),
    )


def assistant(temperature: float = 4.0, teacher_epochs: int = 50) -> Sweep:
    """Teacher assistants: does a large gap in size want a step in between?

    A teacher of plain convolutions (1.34 M parameters), assistants of 669,000 and 465,000, and a student of 76,000,
    which is taught directly, by one assistant whom the teacher taught, and along the whole chain. A tenth of the
    training images is for validation. After Mirzadeh et al. 2020, arXiv:1902.03393.

    Args:
        temperature: T of the soft targets.
        teacher_epochs: Length of the teacher's and the assistants' training.
    """
    from potstill.methods import KD, Labels
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep

    terms = (Labels(weight=0.1), KD(weight=0.9, temperature=temperature))
    teacher = _run("assistant-teacher", _plain(68), Labels(), epochs=teacher_epochs)
    first = _run("assistant-first", _plain(48), *terms, teacher=result_of(teacher), epochs=teacher_epochs)
    second = _run("assistant-second", _plain(40), *terms, teacher=result_of(first), epochs=teacher_epochs)

    def arm(
        name: str, label: str, *parts: Term, above: Run | None = None, after: str | None = None, change: str = ""
    ) -> Arm:
        taught_by = None if above is None else result_of(above)
        run = _run(f"assistant-{label}", _plain(16), *parts, teacher=taught_by)
        return Arm(name=name, run=run, after=after, change=change)

    return Sweep(
        arms=(
            arm("labels", "labels", Labels()),
            arm("taught directly", "direct", *terms, above=teacher),
            arm(
                "by an assistant", "one", *terms, above=first, after="taught directly", change="an assistant in between"
            ),
            arm(
                "by an assistant's assistant",
                "two",
                *terms,
                above=second,
                after="by an assistant",
                change="a second assistant",
            ),
        ),
        seeds=(0, 1, 2),
        teachers=(
            Arm(name="teacher", run=teacher),
            Arm(name="assistant", run=first),
            Arm(name="assistant's assistant", run=second),
        ),
    )


def _plain(width: int) -> Network:
    from potstill.models import Network

    return Network("plain_conv", classes=10, options={"width": width})


def _run(name: str, network: Network, *terms: Term, teacher: Teacher | None = None, epochs: int = EPOCHS) -> Run:
    from potstill.optim import Cosine

    return parts.run(name, network, parts.stage(epochs, 0.05, Cosine(), *terms), teacher=teacher, validation=0.1)
