"""A tuning on the page: its figures, its table, and its runs left out of comparisons."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import UserError
from potstill.record import FORMAT
from potstill.report import write
from potstill.report.load import gather
from potstill.report.tuned import read
from potstill.report.tuning import summary

from .folders import Runs, fingerprint, hinton
from .folders import write as write_file
from .test_page import read as read_page


def trial(
    number: int, status: str, accuracy: float | None, runs: tuple[str, ...] = (), **values: Any
) -> dict[str, Any]:
    epochs = [] if status == "under way" else [0.5, accuracy or 0.4]
    values = {"temperature": 1.0 + number, "method": "kd", **values}
    return {
        "number": number,
        "status": status,
        "values": values,
        "accuracy": accuracy,
        "epochs": epochs,
        "runs": list(runs),
    }


def tuning(path: Path, *trials: dict[str, Any], **changes: Any) -> Path:
    study = {
        "name": "a study",
        "arm": "hard+soft",
        "seeds": [42],
        "ranges": [
            {"name": "temperature", "low": 1.0, "high": 16.0, "log": True},
            {"name": "method", "values": ["kd", "dkd"]},
        ],
        "start": {"temperature": 2.0, "method": "kd"},
        "best": 2,
        "trials": list(trials),
        "importances": {"temperature": 0.75, "method": 0.25},
        "command": "potstill tune mnist:hinton --over temperature=1:16:log --over method=kd,dkd",
        "ready": "potstill run mnist:hinton --temperature 3.0 --method dkd",
        "title": "Hard labels, soft targets, and both.",
        "pruner": "median",
    }
    write_file(path, {"format": FORMAT, "version": "0.1.0", "recipe": "mnist:hinton", "studies": [study | changes]})
    return path


@pytest.fixture
def file(runs: Runs) -> Path:
    return tuning(
        runs.folder / "mnist-hinton.tune.json",
        trial(0, "finished", 0.94),
        trial(1, "finished", 0.945, temperature=2.0),
        trial(2, "finished", 0.9512, method="dkd"),
        trial(3, "pruned", None),
        trial(4, "diverged", None),
        trial(5, "under way", None),
    )


def test_the_page_and_the_text_tell_what_was_found(file: Path, tmp_path: Path):
    written = write([file], tmp_path / "out")
    reader = read_page(written)
    assert (reader.open, reader.outside) == ([], ["data:,"])
    assert len(reader.ids) == len(set(reader.ids))
    assert {reference[1:] for reference in reader.references} <= set(reader.ids)
    page = written.read_text()
    told = (
        "Best on the validation images is temperature 3, method dkd, with 95.12 %; what the recipe has by itself gave "
        "94.50 %. 6 trials: 3 finished, 1 given up early, 1 diverged, 1 under way."
    )
    assert told in page
    assert "<title>mnist:hinton · Potstill report</title>" in page
    assert "potstill run mnist:hinton --temperature 3.0 --method dkd" in page
    for figure in ("Validation accuracy by trial", "over temperature", "over method", "Importances"):
        assert figure in page
    assert "temperature 75 %; method 25 %" in page
    assert re.findall(r"<tr>\n<th scope=\"row\">(\d)</th>\n<td>(\S+)</td>\n<td>(\S+)</td>\n<td>(\S+)</td>", page) == [
        ("3", "3", "dkd", "95.12"),
        ("2", "2", "kd", "94.50"),
        ("1", "1", "kd", "94.00"),
    ]
    text = (tmp_path / "out" / "report.md").read_text()
    assert told in text
    assert "| 3 | 3 | dkd | 95.12 |" in text


def test_its_figures_for_a_paper_stand_beside_those_of_a_comparison(file: Path, tmp_path: Path):
    write([file], tmp_path / "out", figures=tmp_path / "figures")
    drawn = ("history", "importance", "response-0-temperature", "response-1-method")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        f"mnist-hinton-tuning-1-{name}.{kind}" for name in drawn for kind in ("pdf", "png", "svg")
    )


def test_runs_of_trials_are_in_no_comparison(runs: Runs, tmp_path: Path):
    sweep = hinton(runs)
    tried = runs.run("tried", 7, 0.99).name
    runs.run("other", 7, 0.9, name="other")
    tuning(runs.folder / "mnist-hinton.tune.json", trial(0, "finished", 0.94, runs=(tried, "gone-123456789abc")))
    whole = gather([runs.folder])
    assert [group.recipe for group in whole.groups] == ["mnist:hinton", "other runs"]
    assert [entry.arm for entry in whole.groups[1].entries] == ["other"]
    assert len(whole.tunings) == 1
    assert len(gather([sweep]).tunings) == 1  # It lies beside the sweep.
    page = write([runs.folder], tmp_path / "out").read_text()
    assert '<a href="#tuning-1">Tuning of mnist:hinton, hard+soft: temperature and method</a>' in page


def test_teachers_of_trials_alone_are_in_no_comparison(runs: Runs):
    def taught(arm: str, by: str | None) -> str:
        return runs.run(arm, 1, 0.9, identity=fingerprint(arm), name=arm, teacher=by and fingerprint(by)).name

    for arm, by in (("first", None), ("assistant", "first"), ("shared", None), ("other", "shared")):
        taught(arm, by)
    tried = tuple(taught(f"tried by {by}", by) for by in ("assistant", "shared"))
    tuning(runs.folder / "mnist-hinton.tune.json", trial(0, "finished", 0.94, runs=tried))
    (group,) = gather([runs.folder]).groups
    assert {(entry.arm, entry.role) for entry in group.entries} == {("other", "student"), ("shared", "teacher")}


def test_a_tuning_without_a_finished_trial_and_one_whose_best_is_its_first(runs: Runs, tmp_path: Path):
    path = tuning(runs.folder / "a.tune.json", trial(0, "pruned", None), ready=None, importances={}, best=None)
    assert [summary(one) for one in read(path)] == ["1 trial: 0 finished, 1 given up early."]
    assert "1 trial: 0 finished, 1 given up early." in write([path], tmp_path / "out").read_text()
    path = tuning(runs.folder / "b.tune.json", trial(1, "finished", 0.9))
    (one,) = read(path)
    assert summary(one) == (
        "Best on the validation images is temperature 2, method kd, with 90.00 %, which the recipe has by itself. "
        "1 trial: 1 finished."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trials": [{"number": 0}]}, "is damaged; run potstill tune again to have it written anew."),
        ({"trials": [trial(0, "lost", None)]}, "is damaged; "),
        ({"ranges": [{"name": "temperature"}]}, "is damaged; "),
        ({"importances": None}, "is damaged; "),
    ],
)
def test_a_damaged_file(runs: Runs, changes: dict[str, Any], sentence: str):
    hinton(runs)
    path = tuning(runs.folder / "mnist-hinton.tune.json", **changes)
    with pytest.raises(UserError, match=r"mnist-hinton\.tune\.json " + sentence):
        gather([path])
    (notice,) = gather([runs.folder]).left_out  # Beside what is sound it is named.
    assert notice.name == "mnist-hinton.tune.json"
    assert notice.sentence.startswith("mnist-hinton.tune.json " + sentence)


def test_a_file_that_is_not_there_or_no_tuning_or_newer(runs: Runs):
    path = runs.folder / "a.tune.json"
    with pytest.raises(UserError, match=r"a\.tune\.json does not exist; name a sweep file"):
        gather([path])
    path.write_text("{")
    with pytest.raises(UserError, match=r"a\.tune\.json is not a readable file of a tuning; run potstill tune again"):
        gather([path])
    path.write_text(json.dumps({"format": FORMAT + 1, "version": "9.0"}))
    with pytest.raises(UserError, match=r"was written by Potstill 9\.0, which is newer than this one"):
        gather([path])
