import numpy as np
import pytest

from potstill.report.holm import holm


def test_four_p_values_by_hand():
    # .005 < .05/4 and .011 < .05/3; .02 < .05/2; .04 < .05.
    steps = holm([0.02, 0.04, 0.005, 0.011], 0.05)
    assert [step.adjusted for step in steps] == pytest.approx([0.04, 0.04, 0.02, 0.033])
    assert [step.alpha for step in steps] == pytest.approx([0.025, 0.05, 0.0125, 0.05 / 3])
    # .01 < .05/4, but .03 > .05/3: that ends it, and the others are kept whatever they are.
    steps = holm([0.03, 0.04, 0.01, 0.045], 0.05)
    assert [step.adjusted for step in steps] == pytest.approx([0.09, 0.09, 0.04, 0.09])
    assert [step.alpha for step in steps] == pytest.approx([0.05 / 3, 0.05 / 3, 0.0125, 0.05 / 3])


def test_one_p_value_is_left_as_it_is_and_none_is_no_family():
    (step,) = holm([0.04], 0.05)
    assert (step.p, step.adjusted, step.alpha) == (0.04, 0.04, 0.05)
    assert holm([], 0.05) == []


def closed(values: list[float], place: int, alpha: float) -> bool:
    """Whether the closed test of Bonferroni tests, which is what Holm's procedure shortens, rejects a hypothesis."""
    k = len(values)
    sets = [[i for i in range(k) if code >> i & 1] for code in range(1, 2**k)]
    return all(min(values[i] for i in chosen) * len(chosen) < alpha for chosen in sets if place in chosen)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_it_rejects_what_the_closed_test_rejects(k: int):
    rng = np.random.default_rng(k)
    rejected = 0
    for _ in range(300):
        values = (rng.uniform(0, 1, k) ** 3 / 2).tolist()
        for place, step in enumerate(holm(values, 0.05)):
            assert (step.adjusted < 0.05) == closed(values, place, 0.05)
            assert (step.p < step.alpha) == (step.adjusted < 0.05)
            rejected += step.adjusted < 0.05
    assert rejected > 50
