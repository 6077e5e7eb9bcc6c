import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from potstill.report import write
from potstill.report.curves import apart
from potstill.report.interval import interval
from potstill.report.load import gather
from potstill.report.plate import marks
from potstill.report.rows import Row, fallen, rows
from potstill.report.series import Curve, later_range
from potstill.report.settings import response
from potstill.report.size import front, short, sizes
from potstill.report.style import PAGE

from .folders import NO_TEACHER, Runs


def table(runs: Runs) -> tuple[Row, ...]:
    (group,) = gather([runs.sweep()]).groups
    return rows(group)


def described(page: Path, name: str) -> str:
    """What a drawing says to those who cannot see it."""
    (text,) = re.findall(rf'<desc id="{name}-desc">(.*?)</desc>', page.read_text())
    return text


def test_one_setting_that_varies_is_a_curve_in_its_order(runs: Runs, tmp_path: Path):
    runs.run("labels", 1, 0.9)
    for rate in (0.1, 0.001, 0.01):
        for seed in (1, 2):
            runs.run(f"lr {rate}", seed, 0.9 + rate / 10 + seed / 1000, settings={"lr": rate, "momentum": 0.9})
    file = runs.sweep()
    (group,) = gather([file]).groups
    found = response(rows(group))
    assert found is not None
    assert (found.setting, found.values, found.logarithmic) == ("lr", (0.001, 0.01, 0.1), True)
    page = write([file], tmp_path / "out")
    assert described(page, "g1-response") == (
        "0.001: 90.16 ± .07 % (n = 2); 0.01: 90.25 ± .07 % (n = 2); 0.1: 91.15 ± .07 % (n = 2)."
    )
    assert "Dashed: labels. The highest mean is 91.15 ± .07 % (n = 2), at lr 0.1." in page.read_text()


@pytest.mark.parametrize(
    "settings",
    [
        [{"lr": 1}, {"lr": 2}],  # Two points are no curve.
        [{"lr": 1}, {"lr": 2}, {"lr": 2}],  # Two arms at one place.
        [{"lr": 1, "t": 1}, {"lr": 2, "t": 2}, {"lr": 3, "t": 1}],
        [{}, {}, {}],
    ],
)
def test_what_is_no_curve(runs: Runs, settings: list[dict[str, float]]):
    for place, chosen in enumerate(settings):
        runs.run(f"arm {place}", 1, 0.9, settings=chosen)
    assert response(table(runs)) is None


def test_settings_that_are_words_stand_side_by_side(runs: Runs, tmp_path: Path):
    for name in ("sgd", "adam", "lion"):
        runs.run(name, 1, 0.9, settings={"optimizer": name})
    found = response(table(runs))
    assert found is not None
    assert (found.values, found.places, found.logarithmic) == (("sgd", "adam", "lion"), (0, 1, 2), False)


def test_the_interval_is_students():
    values = [0.91, 0.93, 0.92, 0.95]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx(expected)
    assert interval([0.9]) is None


def test_the_front_holds_what_nothing_of_its_size_or_smaller_beats():
    points = [(10, 0.9), (10, 0.95), (20, 0.94), (20, 0.96), (40, 0.96), (5, 0.5), (80, 0.99)]
    kept = front(points)
    assert kept == [(5, 0.5), (10, 0.95), (20, 0.96), (80, 0.99)]
    for size, value in points:
        beaten = any(s <= size and v >= value and (s, v) != (size, value) for s, v in points)
        assert ((size, value) in kept) == (not beaten)


def test_size_is_drawn_where_it_tells_arms_apart(runs: Runs, tmp_path: Path):
    for arm, parameters in (("small", 1000), ("large", 64_000)):
        for seed in (1, 2):
            runs.run(arm, seed, 0.9 + parameters / 1e6 + seed / 1000, parameters=parameters)
    file = runs.sweep()
    page = write([file], tmp_path / "out")
    assert described(page, "g1-size") == "small 1 k: 90.25 ± .07 % (n = 2); large 64 k: 96.55 ± .07 % (n = 2)."
    assert "parameters at inference" in page.read_text()


def test_mult_adds_stand_in_where_parameters_are_equal(runs: Runs):
    runs.run("a", 1, 0.9, mult_adds=10)
    runs.run("b", 1, 0.9, mult_adds=20)
    assert sizes(table(runs)) == ("mult-adds", {"a": 10, "b": 20})


def test_a_crowd_of_one_size_is_no_figure_of_sizes(runs: Runs):
    for place in range(13):
        runs.run(f"arm {place}", 1, 0.9)
    runs.run("teacher", 1, 0.99, role="teacher", parameters=10**6, **NO_TEACHER)
    assert sizes(table(runs)) is None


@pytest.mark.parametrize(("value", "text"), [(950, "950"), (12730, "12.7 k"), (1_199_882, "1.2 M"), (2.5e9, "2.5 G")])
def test_counts_on_an_axis(value: float, text: str):
    assert short(value) == text


def test_an_arm_has_one_mark_in_all_figures(runs: Runs, tmp_path: Path):
    for place in range(9):
        for seed in (1, 2, 3):
            runs.run(f"arm {place}", seed, 0.9 + place / 1000 + seed / 10000)
    found = marks(arms := table(runs))
    assert [row.arm for row in arms if found[row.arm].place is not None] == [f"arm {k}" for k in (0, 4, 5, 6, 7, 8)]
    assert sorted(mark.place for mark in found.values() if mark.place is not None) == list(range(6))


def test_early_epochs_lie_outside_where_they_would_press_the_later_ones_together():
    early = np.concatenate([np.full(4, 0.1), np.linspace(0.7, 0.8, 16)])
    window = later_range([Curve(1, early)], 100)
    assert window is not None
    assert 69 < window[0] < 71
    assert 80 < window[1] < 81
    assert later_range([Curve(1, np.linspace(0.6, 0.8, 20))], 100) is None
    assert later_range([], 100) is None


def test_losses_have_a_drawing_per_stage_and_a_colour_per_term(runs: Runs, tmp_path: Path):
    runs.run("labels", 1, 0.9)
    runs.run("hinted", 1, 0.9, terms=("hint", "kd"), stages=("hint", "kd"))
    page = write([runs.sweep()], tmp_path / "out").read_text()
    assert re.findall(r'<title id="g1-loss[^"]*">(.*?)</title>', page) == [
        "labels: loss by epoch",
        "hinted · hint: loss by epoch",
        "hinted · kd: loss by epoch",
    ]
    first, second = (re.search(rf"<svg [^>]*g1-loss-1-{k}-title.*?</svg>", page, re.S) for k in (0, 1))
    assert first is not None
    assert second is not None
    epochs = [re.findall(r">(\d+)</text>", found.group()) for found in (first, second)]
    assert max(map(int, epochs[0])) == 5
    assert min(map(int, epochs[1])) == 6
    legends = [re.findall(r">(objective|hint|kd)</text>", found.group()) for found in (first, second)]
    assert legends == [["objective", "hint", "kd"]] * 2


def test_names_are_drawn_as_they_are_written(runs: Runs, tmp_path: Path):
    names = ("$\\alpha$ of $x_1$", "a$b", "_hidden", "__init__", "100 % $")
    for place, name in enumerate(names):
        for seed in range(3):
            runs.run(
                name, seed, 0.9 + place / 1000 + seed / 9999, terms=("$x^2$", "_own"), parameters=1000 * (place + 1)
            )
    page = write([runs.sweep()], tmp_path / "out").read_text()
    drawings = {name: re.findall(r"<text[^>]*>([^<]*)</text>", text) for name, text in re.findall(DRAWING, page, re.S)}
    for drawing in ("g1-seeds", "g1-size", "g1-validation-accuracy", "g1-fidelity-agreement"):
        shown = [html.unescape(text).removeprefix("\u200b") for text in drawings[drawing]]
        assert set(names) <= set(shown), drawing
    assert {"$x^2$", "_own"} <= {text.removeprefix("\u200b") for text in drawings["g1-loss-0"]}


DRAWING = r'<svg [^>]*aria-labelledby="([\w-]*)-title[^>]*>(.*?)</svg>'


def test_a_logarithmic_axis_has_numbers_as_one_types_them(runs: Runs, tmp_path: Path):
    for place in range(10):
        runs.run(f"lr {place}", 1, 0.9, settings={"lr": 2.0**place / 1000})
    page = write([runs.sweep()], tmp_path / "out").read_text()
    (drawing,) = (text for name, text in re.findall(DRAWING, page, re.S) if name == "g1-response")
    assert {"0.001", "0.01", "0.1"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", drawing))
    assert "mathdefault" not in page


def test_settings_that_differ_are_labelled_apart(runs: Runs, tmp_path: Path):
    for rate in (0.1, 0.1000001):
        for nesterov in (True, False):
            runs.run(f"{rate} {nesterov}", 1, 0.9 + rate / 100, settings={"lr": rate, "nesterov": nesterov})
    write([runs.sweep()], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| lr ↓ nesterov → | False | True |" in text
    assert "| **0.1** |" in text
    assert "| **0.1000001** |" in text


def test_a_stage_that_seeds_begin_at_unlike_epochs_is_drawn_from_its_own_first(runs: Runs, tmp_path: Path):
    for seed, (first, count) in enumerate(((4, 10), (8, 14))):
        path = runs.run("early", seed, 0.9, terms=("hint", "kd"), count=count) / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for number, line in enumerate(lines):
            second = number >= first
            line |= {"stage_index": int(second), "stage": "kd" if second else "hint"}
            line["train"]["loss"] = 100 + number - first if second else 1
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (row,) = table(runs)
    told = {panel.name: panel for plate in apart("g1", (row,), 12, marks((row,))) for panel in plate.panels}
    figure = told["g1-loss-0-1"].draw(PAGE)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "epoch of the stage"
    objective = next(line for line in axes.lines if line.get_label() == "objective")
    assert np.asarray(objective.get_xdata()).tolist() == [1, 2, 3, 4, 5, 6]
    assert np.asarray(objective.get_ydata()).tolist() == [100, 101, 102, 103, 104, 105]
    (axes,) = told["g1-loss-0-0"].draw(PAGE).axes
    assert axes.get_xlabel() == "epoch"
    (axes,) = told["g1-accuracy-0"].draw(PAGE).axes
    assert not [line for line in axes.lines if line.get_linestyle() == ":"]  # No epoch ends the stage in both.


@pytest.mark.parametrize(
    ("accuracies", "below"),
    [
        ((0.80, 0.83, 0.82, 0.10, 0.81), ("3",)),
        ((0.10, 0.83, 0.82, 0.12, 0.81, 0.8, 0.81, 0.82), ("0", "3")),
        ((0.80, 0.83, 0.82, 0.73, 0.81), ()),  # Not ten points below.
        ((0.60, 0.83, 0.72, 0.10, 0.81), ()),  # The others are not near one another.
        ((0.82, 0.10, 0.83), ()),  # Of three, none is an exception.
        ((0.80, 0.83, 0.12, 0.10, 0.81), ()),  # More than a quarter.
    ],
)
def test_arms_whose_training_failed_are_told_and_not_drawn(
    accuracies: tuple[float, ...], below: tuple[str, ...], runs: Runs, tmp_path: Path
):
    for place, accuracy in enumerate(accuracies):
        for seed in (1, 2):
            runs.run(str(place), seed, accuracy + seed / 1000, agreement=accuracy, parameters=1000 + place)
    file = runs.sweep()
    (group,) = gather([file]).groups
    assert tuple(row.arm for row in fallen(rows(group))) == below
    page = write([file], tmp_path / "out").read_text()
    drawings = {name: re.findall(r"<text[^>]*>([^<]*)</text>", text) for name, text in re.findall(DRAWING, page, re.S)}
    means = [f"← {100 * accuracies[int(arm)] + 0.15:.2f}" for arm in below]
    assert [text for text in drawings["g1-seeds"] if "←" in text] == means
    assert page.count("An arrow is the mean of an arm that lies further down.") == bool(below)
    assert page.count("Not drawn: ") == 3 * bool(below)
    for name in ("g1-fidelity-agreement", "g1-fidelity-kl", "g1-size"):
        legend = {text.removeprefix("\u200b") for text in drawings[name]}
        assert legend.isdisjoint(below)
        assert "1" in legend or "1" in below
