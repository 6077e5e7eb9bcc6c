import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from potstill.errors import UserError
from potstill.report import write
from potstill.report.tables import DASH
from potstill.report.verdict import verdict

from .folders import ENVIRONMENT, NO_TEACHER, Runs, hinton

KEYS = [
    "arm",
    "n",
    "test_accuracy",
    "best_validation_test_accuracy",
    "test_nll",
    "ece",
    "agreement",
    "kl_to_teacher",
    "parameters",
    "seconds",
    "views_per_step",
    "teachers",
    "published",
    "verdict",
    "settings",
    "seeds",
]


def test_json_is_exactly_what_is_promised(runs: Runs, tmp_path: Path):
    write([hinton(runs)], tmp_path / "out", tmp_path / "results")
    saved = json.loads((tmp_path / "results/mnist-hinton.json").read_text())
    assert list(saved) == ["recipe", "command", "environment", "seconds", "reference", "margin", "rows"]
    assert saved["recipe"] == "mnist:hinton"
    assert saved["command"] == "potstill run mnist:hinton --seeds 5"
    assert saved["environment"] == {key: value for key, value in ENVIRONMENT.items() if key != "resumed"}
    results = [json.loads(path.read_text()) for path in runs.folder.glob("*/result.json")]
    assert saved["seconds"] == pytest.approx(sum(result["seconds"] for result in results))
    hard, soft, *_, teacher = saved["rows"]
    assert all(list(row) == KEYS for row in saved["rows"])
    assert soft["seeds"] == [42, 43, 44, 45, 46]
    for key in ("test_accuracy", "best_validation_test_accuracy", "test_nll", "ece", "agreement", "kl_to_teacher"):
        values = soft[key]["values"]
        assert list(soft[key]) == ["mean", "std", "values"]
        assert len(values) == 5
        assert soft[key]["mean"] == pytest.approx(np.mean(values), rel=1e-12)
        assert soft[key]["std"] == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    assert soft["settings"] == {"temperature": 2.0, "alpha": 1.0}
    assert (soft["published"], soft["parameters"], soft["views_per_step"], soft["teachers"]) == (0.9498, 12730, 1, 1)
    assert (hard["agreement"], hard["kl_to_teacher"], hard["settings"], hard["teachers"]) == (None, None, {}, 0)
    assert (saved["reference"], saved["margin"]) == ("hard", 0.0)
    assert list(soft["verdict"]) == ["word", "mean", "low", "high", "n", "p"]
    found = verdict(np.subtract(soft["test_accuracy"]["values"], hard["test_accuracy"]["values"]).tolist())
    assert found is not None
    assert soft["verdict"] == asdict(found)
    assert (hard["verdict"], teacher["verdict"]) == (None, None)
    assert (teacher["n"], teacher["test_accuracy"]["std"], teacher["parameters"]) == (1, None, 1199882)


def test_markdown_of_a_small_sweep(runs: Runs, tmp_path: Path):
    for seed, hard, soft in ((1, 0.90, 0.93), (2, 0.92, 0.94)):
        runs.run("hard", seed, hard, published=0.91, **NO_TEACHER)
        runs.run("soft|T", seed, soft, extra_parameters=1024)
    write([runs.sweep()], tmp_path / "out", tmp_path / "results")
    text = (tmp_path / "results/mnist-hinton.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# mnist:hinton: Soft targets on MNIST"
    assert "Command: `potstill run mnist:hinton --seeds 5`  " in lines
    versions = "Potstill 0.1.0, Python 3.11.7, PyTorch 2.15.0"
    assert f"Environment: {versions}, cpu (Some CPU), 1 thread, fp32, commit 0123456789ab" in lines
    row = next(line for line in lines if line.startswith("| hard |"))
    assert row.startswith("| hard | 91.00 ± 1.41 (n = 2) | 91.00 | – | 91.05 ± 1.41 | +0.05 | 0.3600 ± .0566 |")
    other = next(line for line in lines if line.startswith("| soft\\|T |"))
    assert "| 12,730 (+1,024) |" in other
    assert other.startswith("| soft\\|T | 93.50 ± .71 (n = 2) | – | undecided | 93.55")
    assert "| hard | 90.00 | 92.00 |" in lines
    assert text == (tmp_path / "out/report.md").read_text()


def test_markdown_states_verdicts_and_how_they_were_reached(runs: Runs, tmp_path: Path):
    for seed, wobble in ((1, 0.0), (2, 0.002), (3, 0.001)):
        runs.run("hard*", seed, 0.9)
        runs.run("soft", seed, 0.93 + wobble)
        runs.run("even", seed, 0.899 + wobble)
        runs.run("lower", seed, 0.85 + wobble)
    runs.run("more seeds", 4, 0.9)
    for seed in (1, 2, 3):
        runs.run("more seeds", seed, 0.95)
    write([runs.sweep(margin=0.005)], tmp_path / "out")
    text, _, _ = (tmp_path / "out/report.md").read_text().partition("## Test accuracy per seed")
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {line[0]: line[2] for line in cells} == {
        "| arm": "verdict, points",
        "| hard\\*": DASH,
        "| soft": "better +3.10 [+2.85, +3.35]",
        "| even": "equivalent +0.00 [\N{MINUS SIGN}0.25, +0.25]",
        "| lower": "worse \N{MINUS SIGN}4.90 [\N{MINUS SIGN}5.15, \N{MINUS SIGN}4.65]",
        "| more seeds": "better +5.00 [+5.00, +5.00] (n = 3)",
    }
    assert (
        "is that of the last epoch. Verdict: mean difference to hard\\* over the seeds of both, in points, with the 95 "
        "% interval of a paired two-sided t test, each arm by itself; better or worse where the interval lies beyond a "
        "margin of 0.5 points, equivalent where the 90 % interval lies within it, undecided else and for two seeds.\n"
    ) in text


def test_markdown_of_one_seed_shows_no_spread(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9)
    write([runs.sweep()], tmp_path / "out")
    table = [line for line in (tmp_path / "out/report.md").read_text().splitlines() if line.startswith("|")]
    assert table[2].startswith("| hard | 90.00 (n = 1) |")
    assert "±" not in "".join(table)
    assert "erdict" not in (tmp_path / "out/report.md").read_text()


def test_markdown_of_a_grid(runs: Runs, tmp_path: Path):
    for temperature in (1, 4):
        for alpha in (0.2, 0.8):
            if (temperature, alpha) != (4, 0.2):
                settings = {"temperature": temperature, "alpha": alpha}
                runs.run(f"{temperature} {alpha}", 1, 0.9 + alpha / 100 + temperature / 1000, settings=settings)
    write([runs.sweep()], tmp_path / "out")
    lines = (tmp_path / "out/report.md").read_text().splitlines()
    start = lines.index("## Test accuracy over temperature and alpha, %")
    assert lines[start + 2 : start + 6] == [
        "| temperature ↓ alpha → | 0.2 | 0.8 |",
        "|---|---:|---:|",
        "| **1** | 90.30 | 90.90 |",
        f"| **4** | {DASH} | 91.20 |",
    ]


def test_two_sweeps_of_one_recipe_do_not_overwrite_each_other(tmp_path: Path):
    files = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        runs = Runs(tmp_path / place)
        runs.run("hard", 1, 0.9)
        files.append(runs.sweep())
    message = f"Two sweeps would both be saved as {tmp_path / 'r/mnist-hinton.json'}; report them one by one."
    with pytest.raises(UserError) as caught:
        write(files, tmp_path / "out", tmp_path / "r")
    assert str(caught.value) == message
    assert not (tmp_path / "r").exists()


def test_a_run_that_two_arms_share_is_counted_once_in_the_time(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9, seconds=10.0)
    runs.named.append(runs.named[0] | {"arm": "alpha 0"})
    write([runs.sweep()], tmp_path / "out", tmp_path / "results")
    saved = json.loads((tmp_path / "results/mnist-hinton.json").read_text())
    assert [row["arm"] for row in saved["rows"]] == ["hard", "alpha 0"]
    assert saved["seconds"] == 10.0
