"""How likely a number of seeds is to reach a verdict, and how many seeds a verdict needs.

Both powers are exact: the chance that a normal mean falls where the tests reject, given the sample's spread, is
integrated over the distribution of that spread (Owen, 1965). For one t test that is the tail of the noncentral t; for
two one-sided tests (Schuirmann, 1987) there is no simpler form.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

FEWEST = 3
"""Pairs below which nothing is decided: of two, the 95 % interval reaches 12.7 standard errors to either side."""

LIMIT = 1000
"""Seeds beyond which the number is not told."""

POWER = 0.8
"""The chance of a verdict that seeds are counted for."""

NODES = 64
"""Places at which an integrand is read; it is smooth, and the powers are right to ten decimals."""

Floats = NDArray[np.float64]

TAIL = 1e-14
"""The chance that is left out of an integral at either end."""


def power_beyond(mean: float, std: float, n: int, margin: float = 0.0, *, alpha: float = 0.05) -> float:
    """The chance that n paired differences put their interval at 1 - alpha wholly on one side of the margin.

    Without a margin it is the power of the two-sided paired t test.

    Args:
        mean: The true mean difference.
        std: The true standard deviation of a difference, above 0.
        n: The number of pairs, at least 3.
        margin: What the difference has to exceed, in either direction.
        alpha: The two-sided level of the test.
    """
    from scipy import special

    t = float(special.stdtrit(n - 1, 1 - alpha / 2))
    above, below = (math.sqrt(n) * (end + mean) / std for end in (-margin, margin))
    # SciPy 1.17 answers NaN in the far tail of the noncentral t, nct.cdf(-1.97, 399, 16) for one, and takes 70 ms to.
    return _over_spread(lambda ratio: special.ndtr(above - t * ratio) + special.ndtr(-below - t * ratio), n - 1)


def power_within(mean: float, std: float, n: int, margin: float, *, alpha: float = 0.05) -> float:
    """The chance that two one-sided tests at alpha prove the mean of n paired differences to lie within the margin.

    Args:
        mean: The true mean difference.
        std: The true standard deviation of a difference, above 0.
        n: The number of pairs, at least 3.
        margin: The bound on the difference, in either direction, above 0.
        alpha: The level of each of the two tests.
    """
    error = std / math.sqrt(n)
    return power_tost((-margin - mean) / error, (margin - mean) / error, n - 1, alpha=alpha)


def power_tost(low: float, high: float, df: int, *, alpha: float = 0.05) -> float:
    """The power of two one-sided t tests.

    Args:
        low: The lower bound minus the true mean, in true standard errors.
        high: The upper bound minus the true mean, in the same unit.
        df: Degrees of freedom of the estimated standard error, at least 2.
        alpha: The level of each test.
    """
    from scipy import special

    t = float(special.stdtrit(df, 1 - alpha))
    # The mean has to lie between low + t ratio and high - t ratio: nowhere, where the ratio is too large.
    widest = (high - low) / (2 * t)
    return _over_spread(lambda ratio: special.ndtr(high - t * ratio) - special.ndtr(low + t * ratio), df, widest)


def _over_spread(chance: Callable[[Floats], Floats], df: int, widest: float = math.inf) -> float:
    """The mean of a chance over the ratio of the estimated to the true standard error, as far as `widest`."""
    from scipy import special

    first = math.sqrt(2 * float(special.gammaincinv(df / 2, TAIL)) / df)
    last = min(math.sqrt(2 * float(special.gammainccinv(df / 2, TAIL)) / df), widest)
    if last <= first:
        return 0.0
    places, weights = _quadrature()
    ratio = first + (last - first) * (places + 1) / 2
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    density = np.exp(constant + (df - 1) * np.log(ratio) - df * ratio**2 / 2)
    return min(1.0, float(np.dot(weights, density * chance(ratio)) * (last - first) / 2))


@cache
def _quadrature() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(NODES)


def seeds_needed(
    mean: float,
    std: float,
    margin: float = 0.0,
    *,
    alpha: float = 0.05,
    power: float = POWER,
) -> int:
    """The fewest seeds that reach a verdict with this power, were mean and spread the true ones.

    The verdict is better or worse where the mean lies beyond the margin, equivalent where it lies within;
    `LIMIT` + 1 stands for more than `LIMIT`.

    Args:
        mean: The mean difference.
        std: The standard deviation of the paired differences.
        margin: The difference below which arms count as equal; 0 knows no equivalence.
        alpha: The level of the test, after correction.
        power: The chance of the verdict, within (0, 1).
    """
    if abs(mean) == margin:
        return LIMIT + 1
    if std == 0:
        return FEWEST
    test = power_beyond if abs(mean) > margin else power_within
    return _fewest(lambda n: test(mean, std, n, margin, alpha=alpha) >= power)


def _fewest(enough: Callable[[int], bool]) -> int:
    """The least n from `FEWEST` to `LIMIT` that is enough, by halving; `LIMIT` + 1 where none is."""
    low, high = FEWEST, LIMIT + 1
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low
