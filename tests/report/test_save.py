import contextlib
import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.errors import UserError
from potstill.report import write
from potstill.report.tables import DASH
from potstill.report.verdict import verdicts

from .folders import ENVIRONMENT, NO_TEACHER, Runs, hinton, twins

KEYS = [
    "arm",
    "n",
    "test_accuracy",
    "best_validation_test_accuracy",
    "test_nll",
    "ece",
    "agreement",
    "kl_to_teacher",
    "best_last_gap",
    "parameters",
    "extra_parameters",
    "mult_adds",
    "seconds",
    "views_per_step",
    "forwards_per_step",
    "backwards_per_step",
    "teachers",
    "published",
    "verdict",
    "settings",
    "seeds",
]


def test_json_is_exactly_what_is_promised(runs: Runs, tmp_path: Path):
    write([hinton(runs)], tmp_path / "out", tmp_path / "results")
    saved = json.loads((tmp_path / "results/mnist-hinton.json").read_text())
    assert list(saved) == [
        "recipe",
        "command",
        "environment",
        "seconds",
        "reference",
        "margin",
        "rows",
        "ladder",
        "controls",
    ]
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
    assert list(soft["verdict"]) == [
        "word",
        "mean",
        "low",
        "high",
        "level",
        "margin",
        "n",
        "p",
        "p_adjusted",
        "p_equal",
        "p_equal_adjusted",
        "needed",
    ]
    arms = [row["test_accuracy"]["values"] for row in saved["rows"][1:4]]
    found = verdicts([np.subtract(arm, hard["test_accuracy"]["values"]).tolist() for arm in arms])
    assert [row["verdict"] for row in saved["rows"][1:4]] == [asdict(one) for one in found if one]
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
    assert row.startswith("| hard | 91.00 ± 1.41 (n = 2) | 91.00 | – | – | 91.05 ± 1.41 | +0.05 | 0.3600 ± .0566 |")
    other = next(line for line in lines if line.startswith("| soft\\|T |"))
    assert "| 12,730 (+1,024) |" in other
    assert other.startswith("| soft\\|T | 93.50 ± .71 (n = 2) | – | undecided | 3 | 93.55")
    assert "| hard | 90.00 | 92.00 |" in lines
    assert text == (tmp_path / "out/report.md").read_text()


def test_the_environment_tells_what_was_not_committed(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9, environment={"uncommitted_changes": True})
    write([runs.sweep()], tmp_path / "out")
    assert "fp32, commit 0123456789ab with uncommitted changes\n" in (tmp_path / "out/report.md").read_text()


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
    assert {line[0]: line[2:5] for line in cells} == {
        "| arm": ["verdict, points", "p, Holm", "p equal, Holm"],
        "| hard\\*": [DASH] * 3,
        "| soft": ["better +3.10 [+2.74, +3.46]", "< .001", "1.000"],
        "| even": ["equivalent +0.00 [\N{MINUS SIGN}0.36, +0.36]", "1.000", ".026"],
        "| lower": ["worse \N{MINUS SIGN}4.90 [\N{MINUS SIGN}5.34, \N{MINUS SIGN}4.46]", "< .001", "1.000"],
        "| more seeds": ["better +5.00 [+4.70, +5.30] (n = 3)", "< .001", "1.000"],
    }
    assert (
        "is that of the last epoch. Verdict: mean difference to hard\\* over the seeds of both, in points, with the "
        "97.5 to 98.75 % interval of a paired two-sided t test, 4 arms corrected together (Holm); better or worse "
        "where the interval lies beyond a margin of 0.5 points, equivalent where it lies within (two one-sided "
        "tests), undecided else and for two seeds.\n"
    ) in text


def test_an_undecided_arm_says_how_many_seeds_it_lacks(runs: Runs, tmp_path: Path):
    for seed, wobble in enumerate((0.0, 0.002, 0.001, 0.004)):
        runs.run("hard", seed, 0.9)
        runs.run("soft", seed, 0.9005 + wobble)
        runs.run("same", seed, 0.9)
    write([runs.sweep()], tmp_path / "out", tmp_path / "results")
    saved = json.loads((tmp_path / "results/mnist-hinton.json").read_text())
    assert [row["verdict"] and row["verdict"]["needed"] for row in saved["rows"]] == [None, 9, 1001]
    text = (tmp_path / "out/report.md").read_text()
    assert re.search(r"^\| soft \| .* \| undecided \+0\.22 \[.*\] \| .156 \| 9 \|", text, re.MULTILINE)
    # One image of 2,000 is .05 points; a third of its square is the least variance, t of 3 at 97.5 % is 4.177.
    assert re.search(
        r"^\| same \| .* \| undecided \+0\.00 \[−0\.06, \+0\.06\] \| 1.000 \| > 1,000 \|", text, re.MULTILINE
    )
    assert (
        "else and for two seeds. n needed: seeds that decide with 80 % power if mean and spread are the true " in text
    )


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
    message = f"Two sweeps would both be saved as {tmp_path / 'r/mnist-hinton'}; report them one by one."
    with pytest.raises(UserError) as caught:
        write(twins(tmp_path), tmp_path / "out", tmp_path / "r")
    assert str(caught.value) == message
    assert not (tmp_path / "r").exists()


def test_a_run_that_two_arms_share_is_counted_once_in_the_time(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9, seconds=10.0)
    runs.named.append(runs.named[0] | {"arm": "alpha 0"})
    write([runs.sweep()], tmp_path / "out", tmp_path / "results")
    saved = json.loads((tmp_path / "results/mnist-hinton.json").read_text())
    assert [row["arm"] for row in saved["rows"]] == ["hard", "alpha 0"]
    assert saved["seconds"] == 10.0


def nested(row: dict[str, str]) -> dict[str, Any]:
    """A line of the CSV as the JSON has it."""
    found: dict[str, Any] = {}
    for head, text in row.items():
        key, _, inner = head.partition(".")
        value: Any = None if text == "" else text
        with contextlib.suppress(ValueError, TypeError):
            value = float(text) if text else None
        if key in ("seeds", "values") or inner == "values":
            value = [float(part) for part in text.split()] if text else None
        if inner:
            found.setdefault(key, {})[inner] = value
        else:
            found[key] = value
    nothing = [key for key, value in found.items() if isinstance(value, dict) and not any(value.values())]
    return found | dict.fromkeys(nothing)


def test_the_csv_holds_what_the_json_holds(runs: Runs, tmp_path: Path):
    write([hinton(runs)], tmp_path / "out", tmp_path / "results")
    saved = json.loads((tmp_path / "results/mnist-hinton.json").read_text())
    text = (tmp_path / "results/mnist-hinton.csv").read_text()
    assert text == (tmp_path / "out/report.csv").read_text()
    lines = list(csv.DictReader(text.splitlines()))
    heads = text.splitlines()[0].split(",")
    assert heads[:6] == ["recipe", "arm", "n", "test_accuracy.mean", "test_accuracy.std", "test_accuracy.values"]
    assert [line["arm"] for line in lines] == [row["arm"] for row in saved["rows"]]
    for line, row in zip(lines, saved["rows"], strict=True):
        found = nested(line)
        assert found.pop("recipe") == "mnist:hinton"
        for key, value in found.items():
            kept = (
                {k: v for k, v in row[key].items() if f"{key}.{k}" in heads} if isinstance(row[key], dict) else row[key]
            )
            if key == "settings":
                value = {name: one for name, one in (value or {}).items() if one is not None}
            assert value == kept, key
        assert not any(row[key] for key in row if key not in found)


def test_one_csv_holds_all_sweeps_of_a_report(runs: Runs, tmp_path: Path):
    runs.run("hard, α", 1, 0.9)
    runs.sweep("a:b")
    runs.run("soft", 1, 0.9, spec={"other": 1}, settings={"temperature": 2.0})
    runs.sweep("c:d")
    write([runs.folder], tmp_path / "out")
    lines = list(csv.DictReader((tmp_path / "out/report.csv").read_text().splitlines()))
    assert [(line["recipe"], line["arm"], line["settings.temperature"]) for line in lines] == [
        ("a:b", "hard, α", ""),
        ("c:d", "soft", "2.0"),
    ]


ARM = r"50 % of T_max & {α} #1 ~ $x^2$ \ <b>"


def test_latex_is_the_markdown_with_rules_and_escapes(runs: Runs, tmp_path: Path):
    for temperature in (1, 4):
        for alpha in (0.2, 0.8):
            settings = {"temperature": temperature, "alpha": alpha}
            arm = ARM if (temperature, alpha) == (4, 0.8) else f"{temperature} {alpha}"
            for seed in (1, 2, 3):
                runs.run(arm, seed, 0.9 + alpha / 100 + temperature / 1000 + seed / 3000 * alpha, settings=settings)
    write([runs.sweep()], tmp_path / "out", tmp_path / "results")
    text = (tmp_path / "results/mnist-hinton.tex").read_text()
    assert text == (tmp_path / "out/report.tex").read_text()
    head, *tables = text.split(r"\begin{table}")
    assert (
        head
        == "% Written by `potstill report`; needs \\usepackage{booktabs} in the preamble, and \\input for this file.\n"
    )
    assert len(tables) == 3
    escaped = r"50 \% of T\_max \& \{$\alpha$\} \#1 \textasciitilde{} \$x\textasciicircum{}2\$ \textbackslash{} $<$b$>$"
    assert text.count(escaped) == 2
    markdown = [line for line in (tmp_path / "out/report.md").read_text().splitlines() if line.startswith("| ")]
    written: list[str] = []
    for table in tables:
        (columns,) = re.findall(r"\\begin\{tabular\}\{(l?r*)\}", table)
        body = re.search(r"\\toprule\n(.*)\\bottomrule\n  \\end\{tabular\}\n\\end\{table\}\n", table, re.DOTALL)
        assert body is not None
        lines = [line.strip() for line in body[1].splitlines() if line.strip() not in ("", r"\midrule")]
        assert body[1].count(r"\midrule") == 1
        for line in lines:
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
            assert line.endswith(r" \\")
        written += lines
    assert len(written) == len(markdown)
    for line, same in zip(written, markdown, strict=True):
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        for cell, other in zip(cells[1:], same.strip("| ").split(" | ")[1:], strict=True):
            plain = cell.strip().replace(r"$\pm$", "±").replace("$-$", "\N{MINUS SIGN}").replace(r"\%", "%")
            plain = plain.replace("$<$", "<").replace("$>$", ">").replace("--", DASH)
            assert plain == other
    # Outside of mathematics nothing is left that LaTeX would read as a command or a comment.
    assert not re.search(r"(?<!\\)[%#_^~]", re.sub(r"\$[^$]*\$", "", text.partition("\n")[2]))
