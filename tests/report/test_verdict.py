from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from potstill.report.verdict import Verdict, verdict

SPREAD = 0.002


def found(differences: list[float], margin: float = 0.0, level: float = 0.95) -> Verdict:
    result = verdict(differences, margin, level=level)
    assert result is not None
    return result


def around(mean: float, n: int = 5, width: float = SPREAD) -> list[float]:
    """Differences of exactly that mean, evenly spread."""
    return [mean + width * (2 * i / (n - 1) - 1) for i in range(n)]


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_numbers_are_those_of_the_paired_t_test(n: int, level: float):
    rng = np.random.default_rng(n)
    reference = 0.94 + SPREAD * rng.standard_normal(n)
    arm = reference + 0.001 + SPREAD * rng.standard_normal(n)
    expected = stats.ttest_rel(arm, reference)
    interval = expected.confidence_interval(level)
    result = found((arm - reference).tolist(), level=level)
    assert result.n == n
    assert result.mean == pytest.approx(arm.mean() - reference.mean(), abs=1e-11)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=1e-10)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-6)


@pytest.mark.parametrize("differences", [[], [0.05]])
def test_fewer_than_two_pairs_have_no_verdict(differences: list[float]):
    assert verdict(differences) is None


@pytest.mark.parametrize("differences", [[0.05, 0.0500001], [0.05, 0.05], [0.0, 0.0], [-0.05, -0.0500001]])
@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_two_pairs_are_undecided(differences: list[float], margin: float):
    assert found(differences, margin).word == "undecided"


def test_without_a_margin_the_interval_excludes_zero():
    # Five values spread evenly over ± .002 have a standard error of .000707; t of 4 degrees of freedom is 2.776.
    half = 2.7764 * SPREAD * (0.5 / 4) ** 0.5
    assert found(around(half * 1.001)).word == "better"
    assert found(around(half * 0.999)).word == "undecided"
    assert found(around(-half * 0.999)).word == "undecided"
    assert found(around(-half * 1.001)).word == "worse"
    assert found(around(0.0)).word == "undecided"


def test_with_a_margin_the_interval_lies_beyond_it():
    half, margin = 2.7764 * SPREAD * (0.5 / 4) ** 0.5, 0.001
    assert found(around(margin + half * 1.001), margin).word == "better"
    assert found(around(margin + half * 0.999), margin).word == "undecided"
    assert found(around(-margin - half * 0.999), margin).word == "undecided"
    assert found(around(-margin - half * 1.001), margin).word == "worse"


def test_equivalent_is_decided_by_two_one_sided_tests():
    # The 90 % interval decides (t is 2.132), not the 95 % interval that is shown.
    error = SPREAD * (0.5 / 4) ** 0.5
    differences = around(0.0)
    assert found(differences, 2.1319 * error).word == "equivalent"
    assert found(differences, 2.1317 * error).word == "undecided"
    for mean in (0.001, -0.001):
        above: Any = stats.ttest_1samp(around(mean), -0.003, alternative="greater")
        below: Any = stats.ttest_1samp(around(mean), 0.003, alternative="less")
        assert max(above.pvalue, below.pvalue) < 0.05
        assert found(around(mean), 0.003).word == "equivalent"
        assert found(around(2 * mean), 0.003).word == "undecided"


def test_a_difference_that_is_significant_may_be_too_small_to_count():
    result = found(around(0.001, width=0.0005), 0.005)
    assert result.p < 0.05
    assert result.low > 0
    assert result.word == "equivalent"


@pytest.mark.parametrize(
    ("mean", "margin", "word", "p"),
    [
        (0.0, 0.0, "undecided", 1.0),
        (0.0, 0.01, "equivalent", 1.0),
        (0.02, 0.0, "better", 0.0),
        (-0.02, 0.0, "worse", 0.0),
        (0.02, 0.03, "equivalent", 0.0),
        (0.02, 0.02, "undecided", 0.0),
        (-0.02, 0.02, "undecided", 0.0),
    ],
)
def test_equal_differences_leave_no_width_and_no_warning(mean: float, margin: float, word: str, p: float):
    references = (0.03, 0.47, 0.97)
    differences = [(reference + mean) - reference for reference in references]
    # As in records: subtraction rounds, so they are only nearly equal.
    assert len(set(differences)) > 1 or mean == 0
    result = found(differences, margin)
    assert result == Verdict(word, mean, mean, mean, 3, p)  # pyright: ignore[reportArgumentType]


def test_nearly_equal_differences_do_not_warn():
    assert found([0.02, 0.02, 0.02 + 2e-12]).word == "better"


TRIALS = 800
ERROR = 3 * (0.05 * 0.95 / TRIALS) ** 0.5
"""Three standard errors of a share of 5 % over the trials."""


def judged(truth: float, margin: float, n: int, seed: int) -> list[Verdict]:
    draws: NDArray[np.float64] = truth + SPREAD * np.random.default_rng(seed).standard_normal((TRIALS, n))
    return [found(row, margin) for row in draws.tolist()]


def share(results: list[Verdict], *words: str) -> float:
    return sum(result.word in words for result in results) / len(results)


def test_five_in_a_hundred_equal_arms_are_called_better_or_worse():
    results = judged(0.0, 0.0, 5, seed=1)
    assert share(results, "better", "worse") == pytest.approx(0.05, abs=ERROR)


def test_the_interval_holds_the_truth_in_ninety_five_of_a_hundred():
    results = judged(0.0013, 0.0, 3, seed=2)
    covered = sum(result.low <= 0.0013 <= result.high for result in results) / TRIALS
    assert covered == pytest.approx(0.95, abs=ERROR)


def test_an_arm_at_the_margin_is_seldom_called_equivalent_or_better():
    margin = 0.003
    results = judged(margin, margin, 5, seed=3)
    assert 0.02 < share(results, "equivalent") <= 0.05 + ERROR
    assert 0.01 < share(results, "better") <= 0.025 + ERROR
