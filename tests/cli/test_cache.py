"""`potstill cache`: stores filled ahead, listed and removed."""

import json
import re
from pathlib import Path

import pytest

from potstill.cli import main

from .screen import refused


def asked(place: Path) -> int:
    """How often something was computed and written to a store."""
    lines = [
        json.loads(line) for path in place.glob("runs/store/*/log.jsonl") for line in path.read_text().splitlines()
    ]
    return sum("asking" in line for line in lines)


@pytest.mark.slow
def test_a_recipe_without_augmentation_is_filled_in_one_turn(place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "mine.py:taught", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert asked(place) == 3  # The first 2,000 training images for the gate, all of them, the test images.
    assert main(["run", "mine.py:taught", "--seeds", "2", "--quiet"]) == 0
    assert asked(place) == 3


@pytest.mark.slow
def test_what_is_filled_ahead_is_all_that_a_sweep_asks_for(place: Path, capsys: pytest.CaptureFixture[str]):
    words = ["digits:quickstart", "--epochs", "3"]
    assert main(["cache", *words]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^store digits-quickstart-teacher-\w{12}: 3 steps$", told, re.MULTILINE)
    assert not list(place.glob("runs/*soft*"))
    # Validation images by the gate and then for activations, test images, and three views.
    assert asked(place) == 3 + 3
    assert main(["run", *words, "--seeds", "2", "--quiet"]) == 0
    assert main(["cache", *words, "--quiet"]) == 0
    assert asked(place) == 3 + 3
    capsys.readouterr()
    assert main(["cache", "--list"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["key", "teacher", "data", "holds", "size", "as", "the", "live", "teacher", "pays", "after"]
    key = line.split()[0]
    assert re.fullmatch(
        rf"{key} +digits-quickstart-teacher +digits +test 100\.0%, train 3 of 9 views, train \(pooled\) 3 of 9 views, "
        r"(train \(stage\d\) 3 of 9 views, ){3}validation 100\.0%, validation \(pooled\) 100\.0%"
        r"(, validation \(stage\d\) 100\.0%){3} +\d+\.\d MiB +"
        r"3,600 of 3,600 +(\d+\.\d\d runs|never)",
        line,
    )
    assert refused(capsys, ["cache", "--drop", key[:-1]]) == (
        f"No store in runs/store has the key {key[:-1]!r}; expected one of {key}."
    )
    (folder,) = place.glob("runs/store/*")
    assert main(["cache", "--drop", key]) == 0
    assert re.fullmatch(rf"runs/store/{folder.name} is removed, \d+\.\d MiB\.\n", capsys.readouterr().out)
    assert not folder.exists()
    assert main(["cache", "--list"]) == 0
    assert capsys.readouterr().out == "There are no stores in runs/store.\n"


def test_a_teacher_that_diverged_fills_nothing(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["cache", "mine.py:orphans"])
    assert "diverged" in sentence
    assert not list(place.glob("runs/good-*"))


def test_off_is_off(place: Path):
    assert main(["run", "mine.py:taught", "--store", "off", "--quiet"]) == 0
    assert not (place / "runs" / "store").exists()
    assert main(["run", "mine.py:taught", "--seed", "1", "--quiet"]) == 0
    assert len(list(place.glob("runs/store/*/*.rows"))) == 3


def test_a_report_of_the_folder_of_runs_passes_over_the_stores(place: Path):
    assert main(["run", "mine.py:taught", "--quiet"]) == 0
    assert main(["report", "runs"]) == 0
    assert "store" not in (place / "report" / "report.md").read_text()
