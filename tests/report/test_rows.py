import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.report import write
from potstill.report.ladder import ladder
from potstill.report.load import gather
from potstill.report.rows import best, chosen, grid, paired, rows, spread, students
from potstill.report.verdict import verdicts
from potstill.report.words import amount, bare, probability, rule, ruling, seeds, signed, summary

from .folders import NO_TEACHER, Runs, hinton


def test_spread_is_the_samples():
    values = [0.9412, 0.9455, 0.9431, 0.9467, 0.9402]
    found = spread(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert found.values == tuple(values)


def test_one_value_has_no_spread():
    assert spread([0.5]).std is None


def test_rows_equal_the_records(runs: Runs):
    file = hinton(runs)
    table = rows(gather([file]).groups[0])
    assert [row.arm for row in table] == ["hard", "soft", "hard+soft", "hard+soft, published reduction", "teacher"]
    named = json.loads(file.read_text())["runs"]
    for row in table:
        folders = [runs.folder / run["folder"] for run in named if run["arm"] == row.arm]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        accuracies = np.array([result["test_accuracy"] for result in results])
        assert row.n == len(results)
        assert row.seeds == tuple(result["seed"] for result in results)
        assert row.test_accuracy.mean == pytest.approx(accuracies.mean(), rel=1e-12)
        assert row.test_nll.mean == pytest.approx(np.mean([result["test_nll"] for result in results]), rel=1e-12)
        assert row.seconds == pytest.approx(np.mean([result["seconds"] for result in results]))
    assert [row.teachers for row in table] == [0, 1, 1, 1, 0]


def test_students_are_compared_and_teachers_are_not(runs: Runs):
    table = rows(gather([hinton(runs)]).groups[0])
    assert "teacher" not in [row.arm for row in students(table)]
    assert best(students(table)).arm == "soft"


def test_a_measure_that_one_run_lacks_is_no_measure_of_the_arm(runs: Runs):
    runs.run("soft", 1, 0.9)
    runs.run("soft", 2, 0.9, agreement=None)
    row = rows(gather([runs.sweep()]).groups[0])[0]
    assert row.over(lambda outcome: outcome.agreement) is None


def test_differences_are_paired_by_seed(runs: Runs):
    for seed, low, high in ((1, 0.90, 0.93), (2, 0.92, 0.94), (3, 0.80, 0.84)):
        runs.run("hard", seed, low)
        if seed != 3:
            runs.run("soft", seed, high)
    hard, soft = rows(gather([runs.sweep()]).groups[0])
    found = paired(soft, hard)
    assert found is not None
    assert found.values == pytest.approx((0.03, 0.02))


def test_verdicts_are_against_the_first_arm_over_the_seeds_of_both(runs: Runs):
    for seed in range(5):
        runs.run("large", seed, 0.99)
        runs.named[-1]["role"] = "teacher"
        runs.run("hard", seed, 0.9 + seed / 1000)
        if seed > 1:
            runs.run("soft", seed, 0.92 + seed / 900)
        if seed > 2:
            runs.run("two", seed, 0.92)
        if seed > 3:
            runs.run("one", seed, 0.92)
    runs.run("other seed", 9, 0.92)
    table = rows(gather([runs.sweep()]).groups[0])
    found = {row.arm: row.verdict for row in table if row.verdict}
    assert {arm: (result.word, result.n) for arm, result in found.items()} == {
        "soft": ("better", 3),
        "two": ("undecided", 2),
    }
    differences = [[0.02 + seed / 900 - seed / 1000 for seed in seeds] for seeds in ((2, 3, 4), (3, 4), (4,))]
    expected = verdicts(differences)
    assert expected[0] is not None
    numbers = [[value for value in astuple(one)[1:] if value is not None] for one in (found["soft"], expected[0])]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-8)


def test_the_arms_of_a_sweep_are_decided_together(runs: Runs):
    wobble = (0.0, 0.002, 0.001, 0.003)
    for seed, more in enumerate(wobble):
        runs.run("hard", seed, 0.9)
        for arm, gain in (("soft", 0.004), ("even", -0.0015), ("same", -0.0014)):
            runs.run(arm, seed, 0.9 + gain + more)
    (alone,) = verdicts([[0.004 + more for more in wobble]])
    found = [row.verdict for row in rows(gather([runs.sweep()]).groups[0]) if row.verdict]
    assert alone is not None
    assert [(result.word, result.level) for result in found] == [
        ("better", pytest.approx(1 - 0.05 / 3)),
        ("undecided", pytest.approx(0.975)),
        ("undecided", pytest.approx(0.975)),
    ]
    assert found[0].p_adjusted == pytest.approx(3 * alone.p)


def test_three_seeds_that_differ_by_the_same_image_are_undecided(runs: Runs):
    for seed, right in enumerate((311, 320, 331)):
        runs.run("hard", seed, right / 360)
        runs.run("one", seed, (right + 1) / 360)
        runs.run("two of ladder", seed, (right + 2) / 360)
        runs.named[-1] |= {"after": "one", "change": "more"}
    (group,) = gather([runs.sweep()]).groups
    table = rows(group)
    assert [row.verdict and row.verdict.word for row in table] == [None, "undecided", "undecided"]
    (rung,) = (rung for rung in ladder(table, group.margin) if rung.verdict)
    assert rung.verdict is not None
    assert rung.verdict.word == "undecided"


def test_the_margin_of_a_sweep_judges_and_older_sweeps_have_none(runs: Runs):
    words: list[str] = []
    cases: tuple[dict[str, Any], ...] = ({}, {"margin": 0.005}, {"margin": 0.02})
    for changes in cases:
        for seed in range(3):
            runs.run("hard", seed, 0.9, spec=changes)
            runs.run("soft", seed, 0.91 + seed / 10_000, spec=changes)
        row = rows(gather([runs.sweep(**changes)]).groups[0])[1]
        words += [row.verdict.word if row.verdict else "none"]
    assert words == ["better", "better", "equivalent"]


def test_runs_that_no_sweep_names_have_no_reference_and_no_verdict(runs: Runs):
    for seed in range(3):
        runs.run("hard", seed, 0.9)
        runs.run("soft", seed, 0.91 + seed / 10_000)
    (group,) = gather([runs.folder]).groups
    table = rows(group)
    assert [(row.n, row.verdict) for row in table] == [(3, None), (3, None)]
    assert rule(group, table) == ""


def told(file: Path) -> str:
    (group,) = gather([file]).groups
    return summary(group, rows(group))


def test_an_arm_whose_first_run_is_missing_keeps_its_place(runs: Runs):
    for seed in range(4):
        runs.run("hard", seed, 0.9)
        runs.run("soft", seed, 0.92 + seed / 1000)
    next(runs.folder.glob("*-hard-*/result.json")).unlink()
    (group,) = gather([runs.sweep()]).groups
    assert [(row.arm, row.verdict and row.verdict.word) for row in rows(group)] == [("hard", None), ("soft", "better")]
    assert group.reference == "hard"


def test_where_no_run_of_the_first_arm_is_finished_no_other_takes_its_place(runs: Runs, tmp_path: Path):
    for seed in range(3):
        (runs.run("hard", seed, 0.9) / "result.json").unlink()
        runs.run("soft", seed, 0.91)
        runs.run("sharp", seed, 0.93 + seed / 1000)
    runs.run("teacher", 1, 0.99, role="teacher", **NO_TEACHER)
    file = runs.sweep()
    (group,) = gather([file]).groups
    table = rows(group)
    assert [(row.arm, row.verdict) for row in table] == [("soft", None), ("sharp", None), ("teacher", None)]
    assert summary(group, table) == (
        "Of 2 arms, sharp has the highest mean test accuracy: 93.10 ± .10 % (n = 3). The next is soft with "
        "91.00 ± .00 % (n = 3); the mean difference over the 3 seeds of both is +2.10 ± .10 points."
    )
    assert rule(group, table) == ("No verdicts: no run of hard is finished, the arm that all others are held against.")
    page = write([file], tmp_path / "out", tmp_path / "saved").read_text()
    assert f"every arm. {rule(group, table)}</span></caption>" in page
    assert rule(group, table) in (tmp_path / "out" / "report.md").read_text()
    saved = json.loads((tmp_path / "saved" / "mnist-hinton.json").read_text())
    assert (saved["reference"], [row["verdict"] for row in saved["rows"]]) == ("hard", [None] * 3)


def test_summary_names_best_and_first_with_n_and_claims_no_more(runs: Runs):
    for seed, low, high in ((1, 0.90, 0.93), (2, 0.92, 0.94)):
        runs.run("hard", seed, low)
        runs.run("soft", seed, high)
    assert told(runs.sweep()) == (
        "Of 2 arms, soft has the highest mean test accuracy: 93.50 ± .71 % (n = 2). The first arm is hard with "
        "91.00 ± 1.41 % (n = 2); the mean difference over the 2 seeds of both is +2.50 ± .71 points."
    )


def test_summary_of_single_runs_says_what_is_unknown(runs: Runs):
    runs.run("hard", 1, 0.9)
    runs.run("soft", 2, 0.88)
    assert told(runs.sweep()) == (
        "Of 2 arms, hard has the highest mean test accuracy: 90.00 % (n = 1). The next is soft with 88.00 % (n = 1); "
        "the difference of the means is +2.00 points (no seed in common). A single run says nothing about the spread "
        "between seeds; potstill compare, given two run folders, tests their networks on the test images."
    )


def test_grid_where_exactly_two_settings_vary(runs: Runs):
    runs.run("hard", 1, 0.9)
    for temperature in (4, 1.0):
        for alpha in (0.5, 0.1):
            settings = {"alpha": alpha, "temperature": temperature, "rate": 0.1}
            runs.run(f"T {temperature} a {alpha}", 1, 0.9 + alpha / 100, settings=settings)
    found = grid(rows(gather([runs.sweep()]).groups[0]))
    assert found is not None
    assert found.names == ("alpha", "temperature")
    assert found.values == ((0.1, 0.5), (1.0, 4))
    assert found.cells[(0.5, 4)].arm == "T 4 a 0.5"


@pytest.mark.parametrize("settings", [[{"a": 1}, {"a": 2}], [{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 2, "b": 2}]])
def test_no_grid_of_one_setting_or_of_arms_in_one_place(runs: Runs, settings: list[dict[str, int]]):
    for place, values in enumerate(settings):
        runs.run(f"arm {place}", 1, 0.9, settings=values)
    assert grid(rows(gather([runs.sweep()]).groups[0])) is None


def test_chosen_keeps_the_first_and_the_best_in_order(runs: Runs):
    for place, accuracy in enumerate((0.5, 0.6, 0.9, 0.7, 0.8)):
        runs.run(f"arm {place}", 1, accuracy)
    table = rows(gather([runs.sweep()]).groups[0])
    assert [row.arm for row in chosen(table, 3)] == ["arm 0", "arm 2", "arm 4"]


def test_numbers_as_they_are_read():
    assert (bare(0.123, 2), bare(3.781, 2), bare(0.0, 2)) == (".12", "3.78", ".00")
    assert (signed(0.5, 2), signed(-0.5, 2)) == ("+0.50", "\N{MINUS SIGN}0.50")
    assert (amount(12_050_000), amount(12_730), amount(7)) == ("12.05 M", "12.73 k", "7")
    assert [probability(p) for p in (0.0312, 0.0004, 1.0, 0.0501, 0.04996)] == [
        ".031",
        "< .001",
        "1.000",
        ".0501",
        ".04996",
    ]
    assert (seeds(12), seeds(1000), seeds(1001)) == ("12", "1000", "> 1,000")


def test_an_end_of_an_interval_is_not_rounded_onto_the_margin():
    (found,) = verdicts([[0.012, 0.012, 0.011, 0.0125, 0.0118]], 0.0)
    assert found is not None
    near = replace(found, low=0.00001, high=0.02)
    assert ruling(near, 5) == "better +1.19 [+0.001, +2.00]"
    assert ruling(replace(near, low=0.00801, margin=0.008), 5) == "better +1.19 [+0.801, +2.00]"
    assert ruling(replace(near, word="undecided", low=0.00799, margin=0.008), 5) == "undecided +1.19 [+0.799, +2.00]"
    assert ruling(replace(near, low=0.0), 5) == "better +1.19 [+0.00, +2.00]"
