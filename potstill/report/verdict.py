"""The verdicts on the arms of a comparison: paired t tests against one reference, corrected together, and a margin.

The interval is Student's (1908). That two arms count as equal is decided by two one-sided tests (Schuirmann, 1987): the
difference is proven to lie within the margin, which a test that merely found no difference does not prove. The arms of
a comparison are corrected by Holm's step-down procedure (1979), once for the claim that an arm differs and once for the
claim that it is equivalent.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from potstill.report.holm import Step, holm
from potstill.report.interval import half
from potstill.report.power import FEWEST, seeds_needed

Word = Literal["better", "worse", "equivalent", "undecided"]

LEVEL = 0.95
"""The confidence level of a comparison: of the interval of a single arm, and of all decisions of one kind together."""

DECIMALS = 12
"""Accuracies are counts over a split; what lies beyond in a difference is the rounding of the subtraction."""

LARGEST = 1_000_000
"""Images of a split up to which its size is read from the accuracies."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What the differences of one arm to the reference say; mean, low and high are fractions.

    Attributes:
        word: Better, worse, equivalent or undecided.
        mean: The mean difference, arm minus reference.
        low: Lower end of the confidence interval that decided.
        high: Upper end of the interval.
        level: The confidence level of the interval: that at which Holm's procedure decided this arm.
        margin: What it was held against, as a fraction.
        n: The number of pairs.
        p: The two-sided p value of no difference, or of none beyond the margin, for this arm alone.
        p_adjusted: The same, adjusted over the arms of the comparison; None for two pairs, which are not tested.
        p_equal: The p value of a difference as large as the margin, for this arm alone; None without a margin.
        p_equal_adjusted: The same, adjusted over the arms; None for two pairs or without a margin.
        needed: Seeds that would give the verdict a power of 80 %, were mean and spread the true ones, 1001 for more
            than 1000; None where the verdict is reached.
    """

    word: Word
    mean: float
    low: float
    high: float
    level: float
    margin: float
    n: int
    p: float
    p_adjusted: float | None
    p_equal: float | None
    p_equal_adjusted: float | None
    needed: int | None


def verdicts(
    arms: Sequence[Sequence[float]], margin: float = 0.0, *, resolution: float = 0.0, level: float = LEVEL
) -> tuple[Verdict | None, ...]:
    """The verdicts on the arms of one comparison, decided together; None for an arm of fewer than two pairs.

    With m the margin, an arm is

    - better where its interval lies above m, worse where it lies below -m,
    - equivalent where m > 0 and its interval lies within (-m, m),
    - undecided else, and always where there are two pairs.

    The interval is Student's, at the level at which Holm's procedure decided the arm. Two families are corrected, with
    k arms of three pairs or more in each: "better or worse", where the step that leaves i arms to decide takes the
    two-sided interval at 1 - (1 - level) / i, and "equivalent", where it takes that at 1 - 2 (1 - level) / i, which is
    two one-sided tests. An undecided arm shows the wider of the two that failed to decide it.

    Args:
        arms: Per arm its differences in test accuracy to the reference (arm minus reference, same seeds), as fractions.
        margin: The difference below which arms count as equal, as a fraction; 0 knows no equivalence.
        resolution: What one image is worth, as a fraction. A difference is a whole number of images and stands for any
            within one image of it, so its standard deviation is taken to be `resolution` / √3 at least: that three
            seeds differ by the same image says little of the fourth.
        level: One minus the chance of any wrong decision of one kind over the arms, within (0.5, 1).
    """
    samples = {place: _sample(arm, resolution) for place, arm in enumerate(arms) if len(arm) > 1}
    # That two pairs decide nothing is known before the runs, so such arms cost the others nothing.
    tested = [place for place, sample in samples.items() if sample.n >= FEWEST]
    differ = _decided([samples[place].p_beyond(margin) for place in tested], tested, 1 - level)
    equal = _decided([samples[place].p_within(margin) for place in tested], tested, 1 - level) if margin else {}
    found = {
        place: _tested(sample, margin, differ[place], equal.get(place))
        if place in differ
        else _untested(sample, margin, level, (1 - level) / len(samples))
        for place, sample in samples.items()
    }
    return tuple(found.get(place) for place in range(len(arms)))


def resolution(accuracies: Iterable[float]) -> float:
    """What one image is worth: 1 / N, for the fewest images N of which every accuracy is a whole number.

    N is a divisor of the size of the split, and nearly always that size: of five accuracies on 10,000 images, one in 31
    sets takes it for the half. Where accuracies are no such shares, it is next to 0.
    """
    return 1 / math.lcm(*(Fraction(each).limit_denominator(LARGEST).denominator for each in accuracies))


@dataclass(frozen=True)
class _Sample:
    """Mean, standard deviation and count of the differences of one arm."""

    mean: float
    std: float
    n: int

    def p_beyond(self, margin: float) -> float:
        """The two-sided p value of a difference that does not lie beyond the margin."""
        if not self.std:
            return 0.0 if abs(self.mean) > margin else 1.0
        return min(1.0, 2 * min(self._tail(margin - self.mean), self._tail(margin + self.mean)))

    def p_within(self, margin: float) -> float:
        """The p value of a difference that does not lie within the margin: the greater of two one-sided ones."""
        if not self.std:
            return 0.0 if abs(self.mean) < margin else 1.0
        return max(self._tail(self.mean - margin), self._tail(-self.mean - margin))

    def _tail(self, distance: float) -> float:
        """The chance of a mean that lies lower than a distance to its truth."""
        # SciPy takes a second to import, which a report without a comparison does not wait for.
        from scipy import special

        return float(special.stdtr(self.n - 1, distance / self.error))

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return self.std / self.n**0.5

    def interval(self, alpha: float) -> Interval:
        """Student's two-sided interval of the mean at 1 - alpha."""
        if not self.std:
            return self.mean, self.mean
        reach = half(self.error, self.n, 1 - alpha)
        return self.mean - reach, self.mean + reach


def _sample(differences: Sequence[float], resolution: float) -> _Sample:
    values = [round(difference, DECIMALS) for difference in differences]
    # Of equal values the deviation is not always exactly 0.
    std = statistics.stdev(values) if len(set(values)) > 1 else 0.0
    return _Sample(round(statistics.fmean(values), DECIMALS), max(std, resolution / math.sqrt(3)), len(values))


def _decided(values: Sequence[float], places: Sequence[int], alpha: float) -> dict[int, Step]:
    return dict(zip(places, holm(values, alpha), strict=True))


def _tested(sample: _Sample, margin: float, differ: Step, equal: Step | None) -> Verdict:
    """The verdict whose interval says the same as its word."""
    outer = sample.interval(differ.alpha)
    alpha, (low, high), word = differ.alpha, outer, _side(outer, margin)
    if word == "undecided" and equal is not None:
        inner = sample.interval(2 * equal.alpha)
        if -margin < inner[0] and inner[1] < margin:
            word = "equivalent"
        if word == "equivalent" or 2 * equal.alpha < differ.alpha:
            alpha, (low, high) = 2 * equal.alpha, inner
    needed = None if word != "undecided" else _needed(sample, margin, differ.alpha, equal.alpha if equal else None)
    return Verdict(
        word=word,
        mean=sample.mean,
        low=low,
        high=high,
        level=round(1 - alpha, DECIMALS),
        margin=margin,
        n=sample.n,
        p=differ.p,
        p_adjusted=differ.adjusted,
        p_equal=equal.p if equal else None,
        p_equal_adjusted=equal.adjusted if equal else None,
        needed=needed,
    )


def _untested(sample: _Sample, margin: float, level: float, alpha: float) -> Verdict:
    """What two pairs say: an interval, and no decision."""
    low, high = sample.interval(1 - level)
    return Verdict(
        word="undecided",
        mean=sample.mean,
        low=low,
        high=high,
        level=level,
        margin=margin,
        n=sample.n,
        p=sample.p_beyond(margin),
        p_adjusted=None,
        p_equal=sample.p_within(margin) if margin else None,
        p_equal_adjusted=None,
        needed=_needed(sample, margin, alpha, alpha),
    )


def _side(interval: Interval, margin: float) -> Word:
    return "better" if interval[0] > margin else "worse" if interval[1] < -margin else "undecided"


def _needed(sample: _Sample, margin: float, differ: float, equal: float | None) -> int:
    """Seeds for the verdict that the mean points to, at the level at which it was missed."""
    alpha = differ if equal is None or abs(sample.mean) > margin else equal
    return seeds_needed(sample.mean, sample.std, margin, alpha=alpha)
