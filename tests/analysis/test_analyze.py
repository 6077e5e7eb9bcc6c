"""The verb in processes of its own, on runs that were really trained."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from potstill import distill, record
from potstill.analysis.cka import linear_cka
from potstill.cli import main
from potstill.data import Data, load, rows
from potstill.models import Network, build
from potstill.report import write
from potstill.seeds import fold

from .conftest import command


def copied(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source, tmp_path / "work")
    return tmp_path / "work"


def kept(runs: Path) -> dict[str, tuple[bytes, int]]:
    files = sorted(runs.glob("*/analysis/*"))
    return {str(path.relative_to(runs)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_it_writes_beside_every_student_and_a_second_call_does_nothing(analyzed: Path):
    before = kept(analyzed / "runs")
    assert len(before) == 8
    assert {name.rpartition("/")[2] for name in before} == {"cka.json", "pictures.json"}
    assert not any(name.startswith("teacher") for name in before)
    again = command("analyze", "runs", cwd=analyzed)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == [
        "Nothing is new: all that can be had of these 4 runs is there.",
        "potstill report runs",
    ]
    assert kept(analyzed / "runs") == before


def test_the_same_runs_give_the_same_files(analyzed: Path, trained: Path, tmp_path: Path):
    folder = copied(trained, tmp_path)
    done = command("analyze", "runs", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {name: found[0] for name, found in kept(folder / "runs").items()} == {
        name: found[0] for name, found in kept(analyzed / "runs").items()
    }
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[2] for line in lines[:4]] == ["similarity of layers"] * 4
    assert lines[4].endswith(" pictures")


def test_similarities_are_those_of_the_layers(analyzed: Path):
    seeds = {json.loads((path / "run.json").read_text())["run"]["seed"]: path for path in analyzed.glob("runs/soft-*")}
    folder = seeds[1]
    (above,) = analyzed.glob("runs/teacher-*")
    found = json.loads((folder / "analysis" / "cka.json").read_text())
    assert found["student"] == found["teacher"] == ["stage1", "stage2", "stage3", "pooled", "logits"]
    assert found["images"] == 256
    resident = load(Data(name="digits"))
    place = torch.from_numpy(np.sort(rows(fold(0, "analysis", "digits"), 0, 600)[:256]))
    inputs = resident.batch(resident.test, place).inputs
    networks = []
    for run, width in ((folder, 4), (above, 8)):
        network = build(Network("digits_conv", 10, 1, options={"width": width})).eval()
        network.load_state_dict(load_file(run / "student.safetensors"))
        networks.append(network)
    with torch.no_grad():
        ours, theirs = (network.stage1(inputs) for network in networks)
        assert found["after"][0][0] == pytest.approx(linear_cka(ours, theirs), abs=1e-4)
        ours, theirs = (network(inputs) for network in networks)
        assert found["after"][4][4] == pytest.approx(linear_cka(ours, theirs), abs=1e-4)
    assert found["before"] != found["after"]


def test_pictures_are_the_test_images(analyzed: Path):
    folder = next(analyzed.glob("runs/labels-*"))
    found = json.loads((folder / "analysis" / "pictures.json").read_text())
    assert found["classes"] == [str(k) for k in range(10)]
    images = load(Data(name="digits")).test.images
    assert len(found["pictures"]) > 10
    for place, encoded in found["pictures"].items():
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        np.testing.assert_array_equal(shown, images[int(place), 0])


def test_the_report_shows_it_without_torch(analyzed: Path, tmp_path: Path):
    done = command("report", "runs", "--out", tmp_path, cwd=analyzed)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.html").read_text()
    for heading in ("Differences to labels", "Layers of student and teacher", "What the teacher says"):
        assert f"<summary>{heading}</summary>" in text
    assert "before training" in text
    assert text.count('src="data:image/png;base64,') > 10
    assert "missing from this analysis" not in text


@pytest.mark.parametrize("name", ["cka.json", "pictures.json"])
@pytest.mark.parametrize("how", ["cut", "foreign", "gone"])
def test_what_is_damaged_is_named_skipped_and_written_anew(analyzed: Path, tmp_path: Path, name: str, how: str):
    folder = copied(analyzed, tmp_path)
    before = kept(folder / "runs")
    path = sorted(folder.glob(f"runs/soft-*/analysis/{name}"))[0]
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if how == "cut" else b'{"format": 1, "key": "x"}')
    text = write([folder / "runs"], tmp_path / "out").read_text()
    what = "is missing" if how == "gone" else "is damaged"
    assert f"analysis/{name} {what}" in text
    assert "1 thing is missing from this analysis" in text
    assert "<summary>Layers of student and teacher</summary>" in text
    assert main(["analyze", str(folder / "runs"), "--quiet"]) == 0
    assert {key: value[0] for key, value in kept(folder / "runs").items()} == {
        key: value[0] for key, value in before.items()
    }


def test_a_teacher_without_a_folder_leaves_its_answers(trained: Path, tmp_path: Path):
    folder = copied(trained, tmp_path)
    text = write([folder / "crowd"], tmp_path / "before").read_text()
    assert "What the teacher says" not in text
    assert main(["analyze", str(folder / "crowd" / "tiny_recipes.py-crowd.sweep.json"), "--quiet"]) == 0
    files = {path.name for path in folder.glob("crowd/soft-*/analysis/*")}
    assert files == {"teacher.safetensors", "pictures.json"}  # Layers of several networks are not compared.
    assert "<summary>What the teacher says</summary>" in write([folder / "crowd"], tmp_path / "after").read_text()


def test_peers_are_shown_without_a_teacher(trained: Path, tmp_path: Path):
    folder = copied(trained, tmp_path)
    assert main(["analyze", str(folder / "peers"), "--quiet"]) == 0
    text = write([folder / "peers"], tmp_path / "out").read_text()
    assert "<summary>Reliability</summary>" in text
    assert "What the teacher says" not in text


def test_what_cannot_be_built_again_is_one_sentence(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = copied(trained, tmp_path)
    for path in folder.glob("runs/soft-*/student.safetensors"):
        path.write_bytes(b"nothing")
    assert main(["analyze", str(folder / "runs")]) == 0
    left_out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Left out: ")]
    assert len(left_out) == 2
    assert "student.safetensors is missing or damaged" in left_out[0]
    assert len(list(folder.glob("runs/labels-*/analysis/cka.json"))) == 2


def test_modules_that_were_handed_over_have_pictures_and_no_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small = Network("digits_mlp", 10, 1)
    teacher = distill(build(small), None, "digits", epochs=1, quiet=True, runs_dir=tmp_path / "runs", name="t").student
    distill(build(small), teacher, "digits", epochs=1, quiet=True, runs_dir=tmp_path / "runs", name="s")
    assert main(["analyze", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr().out
    assert "The teacher, a Chain, was handed over as a module, of which a record keeps the hash alone; its" in told
    assert told.count("Left out: s-") == 1
    assert len(list(tmp_path.glob("runs/*/analysis/pictures.json"))) == 2


def test_absent_data_is_one_sentence(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = copied(trained, tmp_path)
    for path in folder.glob("runs/*/run.json"):
        path.write_text(path.read_text().replace('"name": "digits"', '"name": "mnist"'))
    (tmp_path / "empty").mkdir()
    nowhere = {"POTSTILL_DATA": str(tmp_path / "empty"), "http_proxy": "http://127.0.0.1:9"}
    nowhere |= {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert main(["analyze", str(folder / "runs")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("potstill: MNIST is not in ")
    assert err.count("\n") == 1


def test_mistakes_get_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze"]) == 2
    assert capsys.readouterr().err.startswith("potstill: No runs were named; give a sweep file")
    assert main(["analyze", str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not exist; name a sweep file" in capsys.readouterr().err


def test_a_tuning_has_no_students_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trial = {"number": 0, "status": "pruned", "values": {}, "accuracy": None, "epochs": [], "runs": []}
    study = {"arm": "x", "seeds": [0], "ranges": [], "start": {}, "trials": [trial], "importances": {}}
    study |= {"command": "potstill tune x", "ready": None}
    record.write_json(tmp_path / "x.tune.json", {"format": record.FORMAT, "recipe": "x", "studies": [study]})
    assert main(["analyze", str(tmp_path / "x.tune.json")]) == 2
    assert capsys.readouterr() == (
        "",
        "potstill: There is no finished student to look at; name a sweep or a folder that has one.\n",
    )
