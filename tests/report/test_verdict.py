from typing import Any

import numpy as np
import pytest
import quick
from numpy.typing import NDArray
from scipy import stats

from potstill.report.verdict import Verdict, resolution, verdicts

SPREAD = 0.002


def found(differences: list[float], margin: float = 0.0, level: float = 0.95) -> Verdict:
    (result,) = verdicts([differences], margin, level=level)
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
    assert verdicts([differences]) == (None,)


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
    significant: Any = stats.ttest_1samp(around(0.001, width=0.0005), 0.0)
    assert significant.pvalue < 0.05
    assert result.low > 0
    assert (result.word, result.p) == ("equivalent", 1.0)


@pytest.mark.parametrize("margin", [0.0, 0.003])
def test_p_values_are_those_of_one_sided_tests_against_the_margin(margin: float):
    differences = around(0.0042)
    ends: list[Any] = [
        stats.ttest_1samp(differences, end, alternative=side)
        for end, side in ((margin, "greater"), (-margin, "less"), (-margin, "greater"), (margin, "less"))
    ]
    beyond, below, above, within = (end.pvalue for end in ends)
    result = found(differences, margin)
    assert result.p == pytest.approx(2 * min(beyond, below), rel=1e-9)
    assert result.p_adjusted == result.p
    assert result.p_equal == (None if margin == 0 else pytest.approx(max(above, within), rel=1e-9))
    if margin == 0:
        both: Any = stats.ttest_1samp(differences, 0.0)
        assert result.p == pytest.approx(both.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "margin", "word", "p", "p_equal"),
    [
        (0.0, 0.0, "undecided", 1.0, None),
        (0.0, 0.01, "equivalent", 1.0, 0.0),
        (0.02, 0.0, "better", 0.0, None),
        (-0.02, 0.0, "worse", 0.0, None),
        (0.02, 0.01, "better", 0.0, 1.0),
        (0.02, 0.03, "equivalent", 1.0, 0.0),
        (0.02, 0.02, "undecided", 1.0, 1.0),
        (-0.02, 0.02, "undecided", 1.0, 1.0),
    ],
)
def test_equal_differences_leave_no_width_and_no_warning(
    mean: float, margin: float, word: str, p: float, p_equal: float | None
):
    references = (0.03, 0.47, 0.97)
    differences = [(reference + mean) - reference for reference in references]
    # As in records: subtraction rounds, so they are only nearly equal.
    assert len(set(differences)) > 1 or mean == 0
    result = found(differences, margin)
    assert (result.word, result.mean, result.low, result.high) == (word, mean, mean, mean)
    assert (result.p, result.p_equal, result.n) == (p, p_equal, 3)
    assert result.needed == (1001 if word == "undecided" else None)


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


def test_two_pairs_are_no_part_of_the_family():
    pair = [0.05, 0.0500001]
    alone, beside = found(around(0.01)), verdicts([around(0.01), pair, pair, []])
    assert beside[0] == alone
    assert beside[3] is None
    assert beside[1] == beside[2]
    assert beside[1] is not None
    assert (beside[1].word, beside[1].p_adjusted, beside[1].needed) == ("undecided", None, 3)


def test_holm_takes_from_an_arm_what_it_could_claim_alone():
    half = 2.7764 * SPREAD * (0.5 / 4) ** 0.5
    arm = around(half * 1.2)
    assert found(arm).word == "better"
    two = verdicts([arm, around(0.0)])
    assert [result.word for result in two if result] == ["undecided", "undecided"]
    # Beside an arm that is decided at the first step it is the last one, and is held against the whole of 5 %.
    first, second = verdicts([arm, around(10 * half)])
    assert first is not None
    assert second is not None
    assert (first.word, first.level, second.word, second.level) == ("better", 0.95, "better", 0.975)
    assert first.low == pytest.approx(0.2 * half, rel=1e-3)


def said_by(result: Verdict) -> str:
    """What the interval says by itself."""
    if result.low > result.margin:
        return "better"
    if result.high < -result.margin:
        return "worse"
    inside = -result.margin < result.low and result.high < result.margin
    return "equivalent" if result.margin and inside else "undecided"


def test_no_verdict_contradicts_the_numbers_beside_it():
    rng = np.random.default_rng(4)
    seen: dict[str, int] = {}
    levels: set[float] = set()
    for _ in range(1500):
        margin = float(rng.choice([0.0, 0.002, 0.006]))
        truths = rng.normal(0, 0.005, rng.integers(1, 7))
        arms = [rng.normal(truth, rng.choice([0.001, 0.003]), rng.integers(2, 9)).tolist() for truth in truths]
        for result in verdicts(arms, margin):
            assert result is not None
            if result.n < 3:
                continue
            assert result.word == said_by(result)
            assert result.p_adjusted is not None
            assert result.p_adjusted >= result.p
            assert (result.word in ("better", "worse")) == (result.p_adjusted < 0.05)
            if margin:
                assert result.p_equal_adjusted is not None
                assert (result.word == "equivalent") == (result.p_equal_adjusted < 0.05)
            assert (result.needed is None) == (result.word != "undecided")
            assert result.level >= (0.9 if result.word == "equivalent" else 0.95)
            seen[result.word] = seen.get(result.word, 0) + 1
            levels.add(result.level)
    assert min(seen.values()) > 300
    assert len(seen) == 4
    assert len(levels) > 6


FAMILY = 5


def families(truths: list[float], n: int, seed: int, margin: float = 0.0, trials: int = 1000) -> list[list[Verdict]]:
    """Verdicts on sweeps whose arms share the noise of their reference, as in real ones."""
    rng = np.random.default_rng(seed)
    arms = SPREAD * rng.standard_normal((trials, len(truths), n)) + np.array(truths)[:, None]
    draws = arms - SPREAD * rng.standard_normal((trials, 1, n))
    return [[result for result in verdicts(sweep, margin) if result] for sweep in draws.tolist()]


def wrongly(sweeps: list[list[Verdict]], places: list[int], *words: str) -> float:
    """The share of sweeps in which one of some arms, or more, has one of some verdicts."""
    return sum(any(sweep[place].word in words for place in places) for sweep in sweeps) / len(sweeps)


def limit(share: float, trials: int = 1000) -> float:
    return share + 3 * (share * (1 - share) / trials) ** 0.5


def test_of_equal_arms_one_or_more_are_called_better_or_worse_in_five_of_a_hundred_sweeps():
    everyone = list(range(FAMILY))
    sweeps = families([0.0] * FAMILY, 5, seed=5)
    assert 0.02 < wrongly(sweeps, everyone, "better", "worse") < limit(0.05)
    # Without the correction it would be three times as many.
    alone = [any(result.p < 0.05 for result in sweep) for sweep in sweeps]
    assert sum(alone) / len(alone) > 0.13


def test_true_differences_do_not_make_equal_arms_differ_more_often_and_intervals_hold_the_truth():
    truths = [0.0, 0.0, 0.0, 0.02, -0.02]
    sweeps = families(truths, 5, seed=6)
    assert wrongly(sweeps, [3], "better") > 0.95
    assert 0.02 < wrongly(sweeps, [0, 1, 2], "better", "worse") < limit(0.05)
    for place, truth in enumerate(truths):
        covered = sum(sweep[place].low <= truth <= sweep[place].high for sweep in sweeps) / len(sweeps)
        assert covered > 1 - limit(0.05)


def test_arms_at_the_margin_are_seldom_called_equivalent_or_beyond_it():
    margin = 0.004
    sweeps = families([margin, -margin, margin, 0.0, 0.0], 8, seed=7, margin=margin)
    assert 0.01 < wrongly(sweeps, [0, 1, 2], "equivalent") < limit(0.05)
    assert wrongly(sweeps, [0, 1, 2], "better", "worse") < limit(0.05)
    assert wrongly(sweeps, [3, 4], "better", "worse") < 0.004


@pytest.mark.parametrize(
    ("uncertain", "n", "arms"),
    quick.only(
        [(2, 3, 5)],
        [(uncertain, *case) for uncertain in (2, 8) for case in ((3, 1), (3, 5), (4, 3), (5, 5))],
    ),
)
def test_of_equal_arms_few_are_called_different_on_a_split_whose_images_can_be_counted(
    uncertain: int, n: int, arms: int
):
    # Every network is right on 320 of 360 images, and on each of some others with the chance of a coin.
    right = 320 + np.random.default_rng(n).binomial(uncertain, 0.5, size=(1000, arms + 1, n))
    sweeps = ((right[:, 1:] - right[:, :1]) / 360).tolist()

    def share(image: float) -> float:
        called = [[found.word for found in verdicts(sweep, resolution=image) if found] for sweep in sweeps]
        return sum("better" in words or "worse" in words for words in called) / len(sweeps)

    assert share(1 / 360) < limit(0.05)
    if (n, arms, uncertain) == (3, 5, 2):
        assert share(0.0) > 0.12


@pytest.mark.parametrize(("images", "word"), [(1, "undecided"), (2, "better"), (-2, "worse"), (20, "better")])
def test_equal_differences_spread_by_the_third_of_an_image_at_least(images: int, word: str):
    (result,) = verdicts([[images / 360] * 3], resolution=1 / 360)
    assert result is not None
    low, high = stats.t.interval(0.95, 2, images / 360, 1 / 360 / 3)
    assert (result.low, result.high) == pytest.approx((low, high))
    assert result.word == word == said_by(result)
    assert result.p_adjusted is not None
    assert (result.p_adjusted < 0.05) == (word != "undecided")


def test_spreads_beyond_an_image_are_left_as_they_are():
    differences = [0.0051, 0.0062, 0.0049]
    assert verdicts([differences], resolution=1e-4) == verdicts([differences])


def test_the_size_of_a_split_is_read_from_its_accuracies():
    rng = np.random.default_rng(0)
    for images in (359, 360, 1000, 10_000, 50_000):
        shares = (rng.integers(images // 2, images, 20) / images).tolist()
        assert 1 / resolution(shares) == pytest.approx(images)
    assert resolution([2**-0.5, 3**-0.5]) < 1e-9
