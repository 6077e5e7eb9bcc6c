"""Which test images are shown, each chosen by a rule; `potstill analyze` keeps the pictures of the same ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.report.answers import Answers, Logits
from potstill.report.study import Arm, Study

TEMPERATURES = (1, 2, 4, 8)

EACH = 3
"""Images per rule of the gallery."""

SINGLE = 6
"""Images per list of an arm."""


@dataclass(frozen=True)
class Shown:
    """A test image in the gallery, and why it is there."""

    image: int
    why: str


@dataclass(frozen=True, eq=False)
class Cases:
    """Single images of one arm: places in the test split, the clearest first.

    Attributes:
        arm: The arm.
        beats: The teacher is wrong, and more than half of the arm's seeds are right.
        helped: More seeds are right than of the reference, over the seeds of both.
        hurt: Fewer are.
        gained: Per seed of both, how many images are right that are wrong under the reference.
        lost: The other way round.
    """

    arm: Arm
    beats: tuple[int, ...]
    helped: tuple[int, ...]
    hurt: tuple[int, ...]
    gained: tuple[int, ...]
    lost: tuple[int, ...]


def softened(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """Softmax over the last axis at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def gallery(study: Study) -> tuple[Shown, ...]:
    """Test images that show what a teacher says; of equal ones the first in the test split, none twice.

    - It is least sure: its distribution has the highest entropy.
    - It is wrong, and surest of it.
    - The runs of all arms disagree most among each other: their votes have the highest entropy.
    - It is as sure as it usually is: the probability of its answer is nearest to the median.
    """
    if study.logits is None or study.teacher is None:
        return ()
    said = study.teacher.answers[0]
    sure = said.confidence.astype(np.float64)
    votes = _votes(study)
    rules = (
        ("It is least sure.", _entropy(softened(study.logits, 1)), np.ones_like(said.right)),
        ("It is wrong, and sure of it.", sure, ~said.right),
        ("The students disagree.", votes, votes > 0),
        ("As sure as it usually is.", -np.abs(sure - np.median(sure)), said.right),
    )
    taken: dict[int, Shown] = {}
    for why, score, wanted in rules:
        free = wanted.copy()
        free[list(taken)] = False
        for image in _top(score, free, EACH):
            taken[image] = Shown(image, why)
    return tuple(taken.values())


def cases(study: Study) -> tuple[Cases, ...]:
    """The single images of every arm but the reference."""
    return tuple(_cases(study, arm) for arm in study.others)


def pictured(study: Study) -> tuple[int, ...]:
    """Every image that is shown, in order."""
    found = {shown.image for shown in gallery(study)}
    for each in cases(study):
        found.update(each.beats, each.helped, each.hurt)
    return tuple(sorted(found))


def _cases(study: Study, arm: Arm) -> Cases:
    ours, theirs = paired(arm, study.reference)
    beats: list[int] = []
    if study.teacher is not None:
        wrong = ~study.teacher.answers[0].right
        beats = _top(arm.right + arm.share, wrong & (arm.right > 0.5), SINGLE)
    if not ours:
        return Cases(arm, tuple(beats), (), (), (), ())
    right, before = np.stack([each.right for each in ours]), np.stack([each.right for each in theirs])
    gain = right.mean(axis=0) - before.mean(axis=0)
    # Among images that equally many seeds turned, those come first whose label became more probable.
    surer = np.mean([each.share for each in ours], axis=0) - np.mean([each.share for each in theirs], axis=0)
    return Cases(
        arm,
        tuple(beats),
        tuple(_top(gain + surer / 1000, gain > 0, SINGLE)),
        tuple(_top(-gain - surer / 1000, gain < 0, SINGLE)),
        tuple(int(count) for count in (right & ~before).sum(axis=1)),
        tuple(int(count) for count in (before & ~right).sum(axis=1)),
    )


def paired(arm: Arm, reference: Arm) -> tuple[list[Answers], list[Answers]]:
    """The answers of two arms over the seeds that both have, in the same order."""
    theirs = dict(zip(reference.seeds, reference.answers, strict=True))
    both = [(seed, each) for seed, each in zip(arm.seeds, arm.answers, strict=True) if seed in theirs]
    return [each for _, each in both], [theirs[seed] for seed, _ in both]


def _votes(study: Study) -> NDArray[np.float64]:
    """Entropy of the classes that all runs name, (N,)."""
    said = [each.guess for arm in study.arms for each in arm.answers]
    places = np.arange(len(study.labels))
    counts = np.zeros((len(study.labels), study.classes))
    for guess in said:
        counts[places, guess] += 1
    return _entropy(counts / len(said))


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)


def _top(score: NDArray[np.float64], wanted: NDArray[np.bool_], count: int) -> list[int]:
    """The wanted places of highest score, the first of equal ones first."""
    order = np.argsort(-np.round(score, 9), kind="stable")
    return [int(place) for place in order[wanted[order]][:count]]
