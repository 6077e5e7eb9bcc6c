"""The verdict on an arm: a paired t test of its differences to the reference, seed by seed, and a margin.

The interval is Student's (1908). That two arms count as equal is decided by two one-sided tests (Schuirmann, 1987): the
difference is proven to lie within the margin, which a test that merely found no difference does not prove.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Word = Literal["better", "worse", "equivalent", "undecided"]

FEWEST = 3
"""Pairs below which nothing is decided: of two, the 95 % interval reaches 12.7 standard errors to either side."""

LEVEL = 0.95
"""The confidence level of an interval."""

DECIMALS = 12
"""Accuracies are counts over a split; what lies beyond in a difference is the rounding of the subtraction."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What the differences of one arm to the reference say; mean, low and high are fractions.

    Attributes:
        word: Better, worse, equivalent or undecided.
        mean: The mean difference, arm minus reference.
        low: Lower end of the confidence interval of the mean difference.
        high: Upper end of the interval.
        n: The number of pairs.
        p: The two-sided p value of no difference, for this arm alone.
    """

    word: Word
    mean: float
    low: float
    high: float
    n: int
    p: float


def verdict(differences: Sequence[float], margin: float = 0.0, *, level: float = LEVEL) -> Verdict | None:
    """The verdict on paired differences in test accuracy (arm minus reference, same seeds); None for fewer than two.

    With m the margin and the two-sided paired t interval at `level`, an arm is

    - better where the lower end lies above m,
    - worse where the upper end lies below -m,
    - equivalent where m > 0 and the interval at 2 · level - 1 lies within (-m, m): two one-sided tests at 1 - level,
    - undecided else, and always where there are two pairs.

    Differences that are all the same leave an interval of no width, which is judged by the same rules.

    Args:
        differences: One per seed, as fractions.
        margin: The difference below which arms count as equal, as a fraction; 0 knows no equivalence.
        level: The confidence level of the interval, within (0.5, 1).
    """
    values = [round(difference, DECIMALS) for difference in differences]
    if len(values) < 2:
        return None
    (low, high), inner, p = _tested(values, level)
    word: Word = "undecided"
    if len(values) >= FEWEST:
        word = _word((low, high), inner, margin)
    return Verdict(word, round(statistics.fmean(values), DECIMALS), low, high, len(values), p)


def _word(outer: Interval, inner: Interval, margin: float) -> Word:
    if outer[0] > margin:
        return "better"
    if outer[1] < -margin:
        return "worse"
    if margin > 0 and -margin < inner[0] and inner[1] < margin:
        return "equivalent"
    return "undecided"


def _tested(values: Sequence[float], level: float) -> tuple[Interval, Interval, float]:
    """The intervals at `level` and at 2 · level - 1, and the p value."""
    if len(set(values)) == 1:
        # Without spread t is infinite or undefined, and SciPy warns.
        same = (values[0], values[0])
        return same, same, 0.0 if values[0] else 1.0
    # Importing it takes a second, which a report without a comparison does not wait for.
    from scipy import stats

    result: Any = stats.ttest_1samp(values, 0.0)
    outer, inner = (result.confidence_interval(share) for share in (level, 2 * level - 1))
    return (float(outer.low), float(outer.high)), (float(inner.low), float(inner.high)), float(result.pvalue)
