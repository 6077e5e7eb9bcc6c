"""Power against printed values, against SciPy's noncentral t, and against simulation."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from potstill.report.power import FEWEST, LIMIT, power_beyond, power_tost, power_within, seeds_needed

TRIALS = 40_000


@pytest.mark.parametrize(
    ("effect", "alpha", "n"),
    [(0.2, 0.05, 199), (0.5, 0.05, 34), (0.8, 0.05, 15), (1.0, 0.05, 10), (0.5, 0.01, 51)],
)
def test_seeds_are_those_of_the_usual_tables(effect: float, alpha: float, n: int):
    # As statsmodels' TTestPower, R's pwr.t.test(type = "paired") and G*Power give them, rounded up: 198.15, 33.37,
    # 14.30, 9.94 and 50.4.
    assert seeds_needed(effect, 1.0, alpha=alpha) == n
    assert power_beyond(effect, 1.0, n, alpha=alpha) >= 0.8 > power_beyond(effect, 1.0, n - 1, alpha=alpha)


def test_power_of_a_printed_example():
    assert power_beyond(0.5, 1.0, 34) == pytest.approx(0.8077775, abs=1e-7)


@pytest.mark.parametrize("n", [3, 4, 5, 30, 200])
@pytest.mark.parametrize("effect", [0.0, 0.1, -0.7, 2.0])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_it_is_the_tail_of_the_noncentral_t(n: int, effect: float, alpha: float):
    t, shift = stats.t.ppf(1 - alpha / 2, n - 1), effect * math.sqrt(n)
    # By symmetry, for SciPy's lower tail is not always a number.
    expected = stats.nct.sf(t, n - 1, shift) + stats.nct.sf(t, n - 1, -shift)
    if np.isfinite(expected):
        assert power_beyond(0.002 * effect, 0.002, n, alpha=alpha) == pytest.approx(expected, abs=1e-10)
    else:
        assert abs(shift) > 8


def test_the_power_where_nothing_differs_is_the_level():
    assert power_beyond(0.0, 1.0, 5, alpha=0.05) == pytest.approx(0.05, abs=1e-12)


def test_two_one_sided_tests_as_in_the_tables_of_bioequivalence():
    # PowerTOST: power.TOST(CV = 0.25, n = 28), a 2 × 2 crossover with true ratio .95 and bounds .8 and 1.25: .80744.
    deviation = math.sqrt(math.log(1 + 0.25**2))
    error, mean = deviation * math.sqrt(2 / 28), math.log(0.95)
    power = power_tost((math.log(0.8) - mean) / error, (math.log(1.25) - mean) / error, 26)
    assert power == pytest.approx(0.807439, abs=1e-6)


def draws(mean: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(seed).normal(mean, 1.0, (TRIALS, n))
    return values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(n)


def near(power: float) -> float:
    return 4 * math.sqrt(power * (1 - power) / TRIALS) + 1e-4


@pytest.mark.parametrize(
    ("mean", "n", "margin", "alpha"), [(0.9, 5, 0.0, 0.05), (1.5, 4, 0.5, 0.02), (-0.4, 40, 0, 0.01)]
)
def test_better_or_worse_comes_as_often_as_computed(mean: float, n: int, margin: float, alpha: float):
    means, errors = draws(mean, n, seed=n)
    half = stats.t.ppf(1 - alpha / 2, n - 1) * errors
    share = ((means - half > margin) | (means + half < -margin)).mean()
    power = power_beyond(mean, 1.0, n, margin, alpha=alpha)
    assert 0.05 < power < 0.95
    assert share == pytest.approx(power, abs=near(power))


@pytest.mark.parametrize(
    ("mean", "n", "margin", "alpha"), [(0.0, 3, 2.0, 0.05), (0.3, 8, 1.5, 0.01), (-0.1, 60, 0.4, 0.05)]
)
def test_equivalent_comes_as_often_as_computed(mean: float, n: int, margin: float, alpha: float):
    means, errors = draws(mean, n, seed=n)
    half = stats.t.ppf(1 - alpha, n - 1) * errors
    share = ((means - half > -margin) & (means + half < margin)).mean()
    power = power_within(mean, 1.0, n, margin, alpha=alpha)
    assert 0.05 < power < 0.98
    assert share == pytest.approx(power, abs=near(power))


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize(("mean", "margin"), [(0.3, 0.0), (-0.9, 0.4), (0.0, 0.8), (0.3, 0.8)])
def test_the_number_is_the_least_that_has_the_power(mean: float, margin: float, alpha: float):
    test = power_beyond if abs(mean) > margin else power_within
    n = seeds_needed(mean, 0.5, margin, alpha=alpha, power=0.9)
    powers = [test(mean, 0.5, tried, margin, alpha=alpha) for tried in range(FEWEST, n + 40)]
    assert [power >= 0.9 for power in powers] == [tried >= n for tried in range(FEWEST, n + 40)]


@pytest.mark.parametrize(
    ("mean", "std", "margin", "n"),
    [
        (0.0, 1.0, 0.0, LIMIT + 1),
        (1e-4, 1.0, 0.0, LIMIT + 1),
        (0.5, 1.0, 0.5, LIMIT + 1),
        (0.5, 1e-9, 0.0, FEWEST),
        (0.5, 0.0, 0.0, FEWEST),
        (0.5, 0.0, 0.5, LIMIT + 1),
        (0.0, 0.0, 0.5, FEWEST),
    ],
)
def test_numbers_that_are_not_sought(mean: float, std: float, margin: float, n: int):
    assert seeds_needed(mean, std, margin) == n


def test_what_a_spread_of_23_hundredths_asks_of_a_difference_of_3_tenths():
    """The assumptions behind "about 10", as the page on statistics tells them."""
    spread, difference = 0.23, 0.3
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert 2 * (z * spread / difference) ** 2 == pytest.approx(9.23, abs=0.01)
    unpaired = {}
    for n in (10, 11):
        t, shift = stats.t.ppf(0.975, 2 * n - 2), difference / spread * math.sqrt(n / 2)
        unpaired[n] = stats.nct.sf(t, 2 * n - 2, shift)
    assert unpaired[10] == pytest.approx(0.788, abs=1e-3)
    assert unpaired[11] == pytest.approx(0.829, abs=1e-3)
    by_correlation = {rho: seeds_needed(difference, spread * math.sqrt(2 - 2 * rho)) for rho in (0, 0.2, 0.5)}
    assert by_correlation == {0: 12, 0.2: 10, 0.5: 7}
    assert seeds_needed(difference, spread * math.sqrt(2), alpha=0.05 / 5) == 18
    assert power_beyond(1.1, spread * math.sqrt(2), 3) == pytest.approx(0.82, abs=0.01)


def test_why_a_paired_t_test_at_five_seeds():
    """What the page says of the bootstrap and of Wilcoxon's test."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4000, 5))
    places = rng.integers(0, 5, (4000, 500, 5))
    means = np.take_along_axis(values[:, None, :], places, axis=2).mean(axis=2)
    low, high = np.percentile(means, [2.5, 97.5], axis=1)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.84, abs=0.02)
    half = stats.t.ppf(0.975, 4) * values.std(axis=1, ddof=1) / math.sqrt(5)
    assert (abs(values.mean(axis=1)) <= half).mean() == pytest.approx(0.95, abs=0.011)
    least: Any = stats.wilcoxon([0.01, 0.02, 0.03, 0.04, 0.05])
    assert least.pvalue == pytest.approx(2 / 2**5)
