"""A network that teaches itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from potstill.recipes.cifar10 import parts

if TYPE_CHECKING:
    from potstill.run import Run
    from potstill.sweep import Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term
    from potstill.types import Companion

EPOCHS = 50
TEACHER_SEED = 100
"""Of the generations that teach: another one than every student's."""


def self(teacher_epochs: int = 50) -> Sweep:
    """Self-distillation: what does a network learn without anybody else?

    A student of plain convolutions (298,000 parameters) learns from labels, smoothed labels and a made-up teacher; from
    an earlier generation of itself, by answers and by relations, and from two of them; from what it said an epoch ago,
    from the average of its weights, from its own deepest layer; from another view of each image and from a classmate of
    it, beside labels alone on the same pairs. A tenth of the training images is for validation.

    Args:
        teacher_epochs: Length of the training of each generation that teaches.
    """
    from potstill.methods import BYOT, CSKD, DDGSD, KD, PSKD, RKD, TFKD, Labels
    from potstill.models import Network
    from potstill.run import result_of
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import EMA, Ensemble, OwnPast

    network = Network("plain_conv", classes=10)

    def run(
        label: str,
        *terms: Term,
        teacher: Teacher | None = None,
        companion: Companion | None = None,
        epochs: int = EPOCHS,
    ) -> Run:
        from potstill.optim import Cosine

        stage = parts.stage(epochs, 0.05, Cosine(), *terms)
        return parts.run(f"self-{label}", network, stage, teacher=teacher, validation=0.1, companion=companion)

    born_again = (Labels(), KD(temperature=1.0))

    def generation(label: str, *terms: Term, teacher: Teacher | None = None) -> Run:
        return replace(run(label, *terms, teacher=teacher, epochs=teacher_epochs), seed=TEACHER_SEED)

    first = generation("labels", Labels())
    second = generation("again", *born_again, teacher=result_of(first))

    def arm(
        name: str,
        label: str,
        *terms: Term,
        teacher: Teacher | None = None,
        companion: Companion | None = None,
        after: str | None = None,
        change: str = "",
    ) -> Arm:
        its_run = run(label, *terms, teacher=teacher, companion=companion)
        return Arm(name=name, run=its_run, after=after, change=change)

    generations = Ensemble((result_of(first), result_of(second)))
    return Sweep(
        arms=(
            arm("labels", "labels", Labels()),
            arm("smoothed labels", "smooth", Labels(smoothing=0.1)),
            arm("made-up teacher", "tfkd", Labels(weight=0.9), TFKD()),
            arm("second generation", "again", *born_again, teacher=result_of(first)),
            arm(
                "third generation",
                "third",
                *born_again,
                teacher=result_of(second),
                after="second generation",
                change="a generation more",
            ),
            arm("taught by both generations", "both", *born_again, teacher=generations),
            arm("relations of the first generation", "rkd", Labels(), RKD(), teacher=result_of(first)),
            arm("own past epoch", "pskd", PSKD(), teacher=OwnPast()),
            # Of weights that still improve quickly the usual average, over 1,000 steps, is too old to teach.
            arm("own average", "ema", Labels(), KD(temperature=1.0, warmup=5.0), teacher=EMA(decay=0.99)),
            arm("own deepest layer", "byot", Labels(), BYOT(student=("stage1", "stage2"))),
            arm("labels, two views", "labels-views", Labels(), companion="view"),
            arm(
                "two views",
                "ddgsd",
                Labels(),
                DDGSD(),
                companion="view",
                after="labels, two views",
                change="what it says of the other view",
            ),
            arm("labels, classmates", "labels-classmates", Labels(), companion="classmate"),
            arm(
                "classmates",
                "cskd",
                Labels(drawn_only=True),
                CSKD(),
                companion="classmate",
                after="labels, classmates",
                change="what it says of the classmate, not its label",
            ),
        ),
        seeds=(0, 1, 2),
        teachers=(Arm(name="first generation", run=first), Arm(name="second generation, as a teacher", run=second)),
    )
