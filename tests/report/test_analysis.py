"""The part of the page that looks closer, and the files that it reads."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from potstill.report import write
from potstill.report.attached import read_pictures, read_similarity

from .folders import Runs, attach, guesses, hinton, predict, predicted
from .test_page import read


def test_everything_is_there_and_the_page_is_well_formed(runs: Runs, tmp_path: Path):
    file = predicted(runs)
    attach(runs)
    page = write([file], tmp_path)
    reader = read(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {reference[1:] for reference in reader.references} <= set(reader.ids)
    assert all(target.startswith("data:") for target in reader.outside)
    text = page.read_text()
    assert re.findall(r'<details class="part"(?: open)?>\n<summary>(.*?)</summary>', text) == [
        "Differences to labels",
        "Confusions",
        "Most confused pairs",
        "Accuracy by class, minus that of labels",
        "Accuracy by class, as a table",
        "Reliability",
        "Layers of student and teacher",
        "What the teacher says",
        "Single images: soft",
        "Single images: hint &lt;b&gt;",
    ]
    assert "<b>" not in text
    assert "missing from this analysis" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        assert re.search(r"<title id=.*?>.+?</title><desc id=.*?>.+?</desc>", drawing, flags=re.S)
        assert not re.search(r"#[0-9a-f]{6}\b", drawing)


def test_cells_of_a_matrix_are_the_confusions_in_percent(runs: Runs, tmp_path: Path):
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    for seed, said in enumerate(([0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1])):
        predict(runs.run("labels", seed, 0.8), np.eye(2)[said] * 5, labels)
    text = write([runs.sweep()], tmp_path).read_text()
    (drawing,) = re.findall(r"<svg[^>]*g1-confusion-0-title.*?</svg>", text, flags=re.S)
    assert re.findall(r'<text x="[\d.]+" y="[\d.]+">([\d.]+)</text>', drawing)[:3] == ["62.5", "37.5", "100"]
    assert "Most often: 0 called 1 37.5 %." in drawing


def test_predictions_alone_give_all_but_pictures_and_layers(runs: Runs, tmp_path: Path):
    text = write([predicted(runs)], tmp_path).read_text()
    assert "Pictures and the similarity of layers are added by <code>potstill analyze</code>." in text
    assert "<summary>What the teacher says</summary>" in text
    assert "<img" not in text
    assert "Layers of student and teacher" not in text
    assert text.count('aria-label="No picture of test image') > 10


def test_runs_without_predictions_have_fidelity_alone_and_are_named_once(runs: Runs, tmp_path: Path):
    text = write([hinton(runs)], tmp_path).read_text()
    assert "Accuracy and agreement" in text
    assert "<summary>Reliability</summary>" not in text
    assert "1 thing is missing from this analysis" in text
    assert "predictions.safetensors is missing; the runs are left out of this analysis." in text
    assert re.search(r"<strong>hard, seed 42; .*? and \d+ more</strong>", text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"before": [[0.5]]}, "is damaged: its tables are not 2 × 2"),
        ({"after": [[3, 0], [0, 0]]}, "is damaged: a similarity is not within -1 and 1"),
        ({"student": None}, "is damaged: it does not hold two tables of numbers"),
        ({"format": 2}, "was written by another version of Potstill"),
    ],
)
def test_a_damaged_similarity_is_named_and_skipped(runs: Runs, tmp_path: Path, change: dict[str, object], reason: str):
    file = predicted(runs)
    attach(runs)
    folder = next(runs.folder.glob("*soft-*"))
    path = folder / "analysis" / "cka.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"damaged|another version") as caught:
        read_similarity(folder)
    assert str(caught.value) == reason
    text = write([file], tmp_path).read_text()
    assert f"analysis/cka.json {reason}; potstill analyze writes it anew." in text
    assert "<summary>Layers of student and teacher</summary>" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pictures": {"3": "AAAA"}}, "is damaged: a picture is no PNG"),
        ({"pictures": {"3": "<script>"}}, "is damaged: it does not hold names and pictures"),
        ({"pictures": []}, "is damaged: it does not hold names and pictures"),
        ({"classes": None}, "is damaged: it does not hold names and pictures"),
    ],
)
def test_damaged_pictures_are_not_shown(runs: Runs, tmp_path: Path, change: dict[str, object], reason: str):
    file = predicted(runs)
    attach(runs)
    for path in runs.folder.glob("*/analysis/pictures.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(ValueError, match="damaged") as caught:
            read_pictures(path.parents[1])
        assert str(caught.value) == reason
    text = write([file], tmp_path).read_text()
    assert f"analysis/pictures.json {reason}" in text
    assert "<img" not in text


def test_a_sweep_of_ten_arms_and_a_hundred_classes_stays_small_and_quick(runs: Runs, tmp_path: Path):
    labels = np.arange(10_000) % 100
    for arm in range(10):
        for seed in range(3):
            folder = runs.run(f"arm {arm}", seed, 0.7 + arm / 1000, count=30)
            predict(folder, guesses(labels, 10 * arm + seed, 0.3, 100), labels)
    file = runs.sweep()
    start = time.process_time()
    page = write([file], tmp_path)
    assert time.process_time() - start < 10
    assert page.stat().st_size < 2_000_000
    assert "Of 10 arms 6 are looked at: arm 0; arm 5; arm 6; arm 7; arm 8; arm 9." in page.read_text()


def test_more_classes_than_pixels_have_no_matrix(runs: Runs, tmp_path: Path):
    labels = np.arange(600) % 300
    for seed in range(2):
        predict(runs.run("labels", seed, 0.8), guesses(labels, seed, 0.3, 300), labels)
    text = write([runs.sweep()], tmp_path).read_text()
    assert "<summary>Confusions</summary>" not in text
    assert "<summary>Most confused pairs</summary>" in text


def test_the_saved_tables_do_not_change(runs: Runs, tmp_path: Path):
    file = predicted(runs)
    write([file], tmp_path / "a", tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    attach(runs)
    write([file], tmp_path / "b", tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert (tmp_path / "a" / "report.md").read_bytes() == (tmp_path / "b" / "report.md").read_bytes()
