"""Seeds for a claim, from what records spread by."""

import math
from pathlib import Path

import numpy as np
import pytest

from potstill.errors import UserError
from potstill.report.load import gather
from potstill.report.planning import Aim, Need, assumed, lines, recorded, sentence
from potstill.report.power import power_beyond, seeds_needed

from .folders import Runs

HARD = (0.900, 0.903, 0.901, 0.9055)
GAINS = {"soft": (0.002, 0.0045, 0.001, 0.003), "wild": (0.01, -0.012, 0.004)}


def sweep(runs: Runs, recipe: str = "mnist:hinton", **changes: float) -> Path:
    for seed, accuracy in enumerate(HARD):
        runs.run("hard", seed, accuracy, spec={"recipe": recipe})
        for arm, gains in GAINS.items():
            if seed < len(gains):
                runs.run(arm, seed, accuracy + gains[seed], spec={"recipe": recipe})
    return runs.sweep(recipe, **changes)


def needs(aim: Aim, *files: Path) -> dict[tuple[str, str], Need]:
    return {(need.recipe, need.arm): need for need in recorded(aim, gather(files).groups)}


def test_spreads_are_those_of_paired_differences(runs: Runs):
    aim = Aim(0.003)
    found = needs(aim, sweep(runs))
    assert [arm for _, arm in found] == ["hard", "soft", "wild", "pooled"]
    for arm, gains in GAINS.items():
        need = found["mnist:hinton", arm]
        values = np.array(HARD[: len(gains)]) + gains
        assert need.spreads.own == pytest.approx(values.std(ddof=1))
        assert need.spreads.paired == pytest.approx(np.std(gains, ddof=1))
        assert (need.spreads.own_df, need.spreads.paired_df) == (len(gains) - 1, len(gains) - 1)
        assert need.alone == seeds_needed(0.003, float(np.std(gains, ddof=1)))
        assert need.together == seeds_needed(0.003, float(np.std(gains, ddof=1)), alpha=0.025)
        assert need.arms == 2
    reference = found["mnist:hinton", "hard"]
    assert (reference.spreads.paired, reference.alone, reference.together) == (None, None, None)
    pooled = found["mnist:hinton", "pooled"].spreads
    variance = (3 * np.var(GAINS["soft"], ddof=1) + 2 * np.var(GAINS["wild"], ddof=1)) / 5
    assert pooled.paired == pytest.approx(math.sqrt(variance))
    assert (pooled.own_df, pooled.paired_df) == (8, 5)


def test_several_comparisons_are_pooled_too(runs: Runs):
    first, second = sweep(runs), sweep(runs, "digits:quickstart")
    found = needs(Aim(0.003), first, second)
    assert [arm for _, arm in found] == ["hard", "soft", "wild", "pooled"] * 2 + ["pooled"]
    one, everything = found["mnist:hinton", "pooled"], found["", "pooled"]
    assert everything.spreads.paired == pytest.approx(one.spreads.paired)
    assert everything.spreads.paired_df == 2 * one.spreads.paired_df
    assert (everything.alone, everything.arms, everything.n) == (one.alone, 1, 22)


def test_recipes_of_one_margin_are_pooled_under_it(runs: Runs):
    files = sweep(runs, margin=0.008), sweep(runs, "digits:quickstart", margin=0.008)
    found = needs(Aim(0.003), *files)
    one, everything = found["mnist:hinton", "pooled"], found["", "pooled"]
    assert (everything.verdict, everything.alone) == ("equivalent", one.alone)
    assert "to lie within the margin" in sentence(Aim(0.003), list(found.values()))


def test_recipes_of_unlike_margins_are_not_pooled(runs: Runs):
    files = sweep(runs, margin=0.008), sweep(runs, "digits:quickstart", margin=0.002)
    found = needs(Aim(0.003), *files)
    assert [recipe for recipe, arm in found if arm == "pooled"] == ["mnist:hinton", "digits:quickstart"]
    assert [need.verdict for (_, arm), need in found.items() if arm == "pooled"] == ["equivalent", "better"]
    assert sentence(Aim(0.003), list(found.values())) == (
        "The recipes have unlike margins, so that each needs a number of its own: that of its pooled line."
    )


def test_the_margin_itself_cannot_be_planned_for(runs: Runs):
    with pytest.raises(UserError) as caught:
        needs(Aim(0.8 / 100), sweep(runs, margin=0.008))
    assert str(caught.value) == (
        "--difference is 0.8, the margin of mnist:hinton, and no number of seeds tells the two apart; give a "
        "difference above it, to be shown to exceed it, or below, to be shown to lie within."
    )


def test_within_the_margin_of_a_recipe_equivalence_is_claimed(runs: Runs):
    file = sweep(runs, margin=0.008)
    within, beyond = needs(Aim(0.003), file), needs(Aim(0.01), file)
    spread = float(np.std(GAINS["soft"], ddof=1))
    need = within["mnist:hinton", "soft"]
    assert (need.verdict, need.alone) == ("equivalent", seeds_needed(0.003, spread, 0.008))
    need = beyond["mnist:hinton", "soft"]
    assert (need.verdict, need.alone) == ("better", seeds_needed(0.01, spread, 0.008))
    assert sentence(Aim(0.003), list(within.values())).startswith(
        "To show a difference of 0.3 points to lie within the margin with 80 % power, a paired t test at 5 % needs "
    )
    assert "verdict" in lines(list(within.values()))[0]
    assert "verdict" not in lines(list(needs(Aim(0.003), sweep(runs, "a:b")).values()))[0]


def test_runs_without_a_reference_are_taken_to_have_nothing_in_common(runs: Runs):
    folders = [runs.run("hard", seed, accuracy) for seed, accuracy in enumerate(HARD)]
    found = needs(Aim(0.003), *folders)
    need = found["other runs", "mnist-hinton-hard"]
    spread = float(np.std(HARD, ddof=1))
    assert need.spreads.paired == pytest.approx(math.sqrt(2) * spread)
    assert need.alone == seeds_needed(0.003, math.sqrt(2) * spread)
    _, cells = lines(list(found.values()))
    assert cells[0][-2] == ".34 (√2 ×)"
    assert sentence(Aim(0.003), list(found.values())).endswith("points if their seeds have nothing in common.")


def test_where_the_reference_has_no_finished_run_no_other_arm_stands_in_for_it(runs: Runs):
    file = sweep(runs)
    for path in runs.folder.glob("*-hard-*/result.json"):
        path.unlink()
    found = needs(Aim(0.003), file)
    assert list(found) == [("mnist:hinton", arm) for arm in ("soft", "wild", "pooled")]
    for need in found.values():
        assert (need.spreads.paired_df, need.arms) == (0, 1)
        assert need.spreads.own is not None
        assert need.spreads.paired == pytest.approx(math.sqrt(2) * need.spreads.own)


def test_a_given_spread():
    need = assumed(Aim(0.003), 0.0023)
    assert need.alone == 12
    assert power_beyond(0.003, math.sqrt(2) * 0.0023, 12) >= 0.8 > power_beyond(0.003, math.sqrt(2) * 0.0023, 11)
    assert lines([need]) == (
        ["arm", "spread, points", "of differences", "seeds alone"],
        [["given", ".23", ".33 (√2 ×)", "12"]],
    )
    assert sentence(Aim(0.003), [need]) == (
        "To show a difference of 0.3 points with 80 % power, a paired t test at 5 % needs 12 seeds of each arm: "
        "differences spread by .33 points if their seeds have nothing in common."
    )
    assert "needs more than 1,000 seeds of each arm" in sentence(Aim(1e-5), [assumed(Aim(1e-5), 0.0023)])


def test_so_many_seeds_show_the_difference_as_often_as_was_asked():
    aim, rng = Aim(0.003, 0.9), np.random.default_rng(0)
    n = assumed(aim, 0.0023).alone
    assert n is not None
    draws = 0.003 + 0.0023 * (rng.standard_normal((20_000, n)) - rng.standard_normal((20_000, n)))
    t = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * math.sqrt(n)
    from scipy import stats

    share = (t > stats.t.ppf(0.975, n - 1)).mean()
    assert 0.9 - 0.007 < share < 0.925


def test_one_seed_says_nothing_of_a_spread(runs: Runs):
    runs.run("hard", 1, 0.9)
    runs.run("soft", 1, 0.91)
    with pytest.raises(UserError) as caught:
        recorded(Aim(0.003), gather([runs.sweep()]).groups)
    assert str(caught.value) == (
        "No arm of these runs has two seeds, so their spread is unknown; give it with --spread."
    )


@pytest.mark.parametrize(
    ("difference", "power", "message"),
    [
        (0.0, 0.8, "--difference is 0; expected percentage points, above 0 and below 100."),
        (-0.003, 0.8, "--difference is -0.3; expected percentage points, above 0 and below 100."),
        (float("nan"), 0.8, "--difference is nan; expected"),
        (0.003, 1.0, "--power is 1; expected a fraction between 0 and 1, such as 0.8."),
        (0.003, 80.0, "--power is 80; expected a fraction"),
    ],
)
def test_aims_that_make_no_sense(difference: float, power: float, message: str):
    with pytest.raises(UserError) as caught:
        Aim(difference, power)
    assert str(caught.value).startswith(message)


def test_a_spread_that_makes_no_sense():
    with pytest.raises(UserError, match=r"--spread is 0; expected percentage points, above 0 and below 100\."):
        assumed(Aim(0.003), 0.0)
