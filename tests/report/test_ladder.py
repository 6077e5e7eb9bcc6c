import json
import math
from pathlib import Path

import pytest
from scipy import stats

from potstill.report import write
from potstill.report.ladder import controls, ladder
from potstill.report.load import gather
from potstill.report.rows import rows
from potstill.report.verdict import verdicts

from .folders import Runs

SEEDS = range(4)


def climbing(runs: Runs) -> Path:
    """Two changes on labels, of which the first gives nothing and the second hurts; a third arm is no rung."""
    rungs = {
        "labels": (0.90, {}),
        "worse": (0.85, {"after": "soft *", "change": "frozen"}),
        "soft *": (0.901, {"after": "labels", "change": "soft | targets"}),
        "other": (0.91, {}),
    }
    for place, (arm, (accuracy, named)) in enumerate(rungs.items()):
        for seed in SEEDS:
            runs.run(arm, seed, round(accuracy + math.sin(7 * seed + 5 * place) / 500, 4))
            runs.named[-1] |= named
    return runs.sweep("my:ladder", margin=0.0)


def test_each_rung_is_judged_against_the_one_it_changes(runs: Runs):
    (group,) = gather([climbing(runs)]).groups
    table = {row.arm: row for row in rows(group)}
    found = ladder(rows(group), group.margin)
    assert [(rung.row.arm, rung.before and rung.before.arm, rung.depth) for rung in found] == [
        ("labels", None, 0),
        ("soft *", "labels", 1),
        ("worse", "soft *", 2),
    ]
    for rung in found[1:]:
        assert rung.before is not None
        ours, theirs = rung.row.test_accuracy.values, rung.before.test_accuracy.values
        assert rung.values == pytest.approx([a - b for a, b in zip(ours, theirs, strict=True)])
        assert rung.verdict is not None
        assert rung.verdict.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    # Two changes are decided together, apart from the three arms of the comparison.
    assert [rung.verdict for rung in found[1:]] == list(verdicts([rung.values for rung in found[1:]], 0.0))
    verdict = table["worse"].verdict
    assert verdict is not None
    assert found[2].verdict is not None
    assert verdict.mean != found[2].verdict.mean


def test_the_page_and_all_tables_hold_it(runs: Runs, tmp_path: Path):
    page = write([climbing(runs)], tmp_path / "out", tmp_path / "results").read_text()
    assert '<h3 id="g1-ladder">Ablation ladder</h3>' in page
    assert '<th scope="row" style="--depth: 2">frozen</th>' in page
    assert "What each change gives" in page
    saved = json.loads((tmp_path / "results/my-ladder.json").read_text())["ladder"]
    assert [(rung["change"], rung["arm"], rung["after"]) for rung in saved] == [
        ("", "labels", None),
        ("soft | targets", "soft *", "labels"),
        ("frozen", "worse", "soft *"),
    ]
    assert saved[2]["verdict"]["word"] == "worse"
    assert len(saved[2]["difference"]) == 4
    text = (tmp_path / "out/report.md").read_text()
    _, _, below = text.partition("## Ablation ladder, one change per row\n\n")
    lines = below.splitlines()
    assert lines[:2] == [
        "| change | arm | compared with | verdict | test accuracy, % | difference, points | p, Holm | n needed |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    assert lines[3].startswith(r"| → soft \| targets | soft \* | labels | undecided | ")
    assert lines[4].startswith(r"| → → frozen | worse | soft \* | worse | ")
    assert lines[6] == (
        "Each row changes one thing in the arm that it is compared with. Verdicts as in the comparison, over the 2 "
        "changes together."
    )
    assert r"\quad \quad frozen & worse & soft * & worse" in (tmp_path / "out/report.tex").read_text()


def test_a_rung_whose_arm_below_is_missing_stands_without_a_verdict(runs: Runs, tmp_path: Path):
    for seed in SEEDS:
        runs.run("soft", seed, 0.9)
        runs.named[-1] |= {"after": "labels", "change": "soft targets"}
    (group,) = gather([file := runs.sweep(margin=0.0)]).groups
    (rung,) = ladder(rows(group), group.margin)
    assert (rung.before, rung.verdict, rung.depth) == (None, None, 0)
    write([file], tmp_path / "out")
    assert "| soft targets | soft | labels |" in (tmp_path / "out/report.md").read_text()


def test_arms_that_change_each_other_are_each_shown_once(runs: Runs, tmp_path: Path):
    for arm, after in (("a", "b"), ("b", "a")):
        runs.run(arm, 1, 0.9)
        runs.named[-1] |= {"after": after, "change": "x"}
    (group,) = gather([file := runs.sweep(margin=0.0)]).groups
    assert [rung.row.arm for rung in ladder(rows(group), group.margin)] == ["a", "b"]
    write([file], tmp_path / "out")


def test_no_ladder_where_no_arm_names_another(runs: Runs, tmp_path: Path):
    runs.run("a", 1, 0.9)
    assert "ladder" not in write([runs.sweep()], tmp_path / "out").read_text().partition("<body>")[2]


def controlled(runs: Runs) -> Path:
    """Labels, soft targets, and soft targets under two controls."""
    arms = {
        "labels": (0.90, "student", {}),
        "soft": (0.92, "student", {"after": "labels", "change": "a teacher"}),
        "soft; shuffled": (0.89, "control", {"after": "soft", "change": "shuffled"}),
        "soft; uniform": (0.921, "control", {"after": "soft", "change": "uniform"}),
    }
    for place, (arm, (accuracy, role, named)) in enumerate(arms.items()):
        for seed in SEEDS:
            runs.run(arm, seed, round(accuracy + math.sin(7 * seed + 5 * place) / 500, 4), role=role)
            runs.named[-1] |= named
    return runs.sweep("my:controls", margin=0.0)


def test_controls_are_held_against_their_arms_and_cost_the_others_nothing(runs: Runs):
    (group,) = gather([controlled(runs)]).groups
    table = {row.arm: row for row in rows(group)}
    soft, labels = (table[name].test_accuracy.values for name in ("soft", "labels"))
    assert table["soft"].verdict == verdicts([[a - b for a, b in zip(soft, labels, strict=True)]], resolution=1e-4)[0]
    assert table["soft; shuffled"].verdict is None
    assert [rung.row.arm for rung in ladder(rows(group), group.margin)] == ["labels", "soft"]
    base, *found = controls(rows(group), group.margin)
    assert (base.row.arm, base.before, base.verdict) == ("soft", None, None)
    assert [(rung.row.arm, rung.depth) for rung in found] == [("soft; shuffled", 1), ("soft; uniform", 1)]
    differences = [[a - b for a, b in zip(table[r.row.arm].test_accuracy.values, soft, strict=True)] for r in found]
    assert [rung.values for rung in found] == [pytest.approx(each) for each in differences]
    assert [rung.verdict for rung in found] == list(verdicts(differences, resolution=1e-4))
    assert [rung.verdict.word for rung in found if rung.verdict] == ["worse", "undecided"]


def test_the_page_and_all_tables_hold_the_controls(runs: Runs, tmp_path: Path):
    page = write([controlled(runs)], tmp_path / "out", tmp_path / "results").read_text()
    assert '<li><a href="#g1-controls">Controls</a></li>' in page
    assert 'soft; shuffled <span class="role">control</span>' in page
    assert "What a control gives in place of the teacher" in page
    assert "Of 2 arms, soft has the highest" in page
    saved = json.loads((tmp_path / "results/my-controls.json").read_text())
    assert [rung["arm"] for rung in saved["ladder"]] == ["labels", "soft"]
    assert [(rung["change"], rung["arm"], rung["after"]) for rung in saved["controls"]] == [
        ("", "soft", None),
        ("shuffled", "soft; shuffled", "soft"),
        ("uniform", "soft; uniform", "soft"),
    ]
    text = (tmp_path / "out/report.md").read_text()
    _, _, below = text.partition("## Controls, each in place of an arm's teacher\n\n")
    assert below.splitlines()[3].startswith("| → shuffled | soft; shuffled | soft | worse | ")
    assert "Verdicts as in the comparison, over the 2 controls together." in below
    assert "| soft; uniform | 92." in text
    assert "shuffled" in (tmp_path / "results/my-controls.tex").read_text()
    assert "soft; shuffled" in (tmp_path / "results/my-controls.csv").read_text()
