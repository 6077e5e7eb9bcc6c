"""MLflow and Weights & Biases: optional, local, and one run each whatever was killed."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from potstill import record
from potstill.cli import main
from potstill.live.outlets import chosen

MINE = str(Path(__file__).parents[1] / "cli" / "mine.py:right")

KILLED_ONCE = """
import os, signal, sys
from potstill import record
whole = record.write_json
def write_json(path, value):
    if path.name == "result.json":
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, value)
record.write_json = write_json
from potstill.cli import main
main(sys.argv[1:])
"""
"""The command, which dies before the result is written."""


@pytest.mark.parametrize("logger", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_is_refused_before_anything_is_trained(
    logger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    monkeypatch.setitem(sys.modules, logger, None)
    monkeypatch.chdir(tmp_path)
    assert main(["run", MINE, "--logger", logger]) == 2
    assert capsys.readouterr().err == (
        f"potstill: The logger is {logger!r}, but pytorch_lightning and {logger} are not installed; install the extra: "
        f'pip install "potstill[{logger}]".\n'
    )
    assert not (tmp_path / "runs").exists()


def test_choices_mean_outlets():
    assert chosen(True, None) == ("events",)
    assert chosen(False, None) == ()


def command(logger: str, place: Path, *, kill: bool = False) -> subprocess.CompletedProcess[str]:
    """The recipe of one epoch with a logger, in a folder of its own, without an account or a network."""
    program = ["-c", KILLED_ONCE] if kill else ["-m", "potstill.cli"]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, *program, "run", MINE, "--seeds", "1", "--logger", logger],
        cwd=place,
        env={**plain, **nowhere, "OMP_NUM_THREADS": "1", "HOME": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )


def only(place: Path) -> record.Record:
    (folder,) = (path for path in (place / "runs").iterdir() if path.is_dir())
    return record.read(folder)


@pytest.mark.slow
def test_mlflow_has_the_numbers_of_a_killed_run_once(tmp_path: Path):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("pytorch_lightning", reason="the extra mlflow is not installed")
    assert command("mlflow", tmp_path, kill=True).returncode == -9
    done = command("mlflow", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on without" not in done.stdout
    found = only(tmp_path)
    read = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
(experiment,) = client.search_experiments(filter_string="name = 'potstill'")
(run,) = client.search_runs([experiment.experiment_id])
names = ("train/loss", "train/terms/labels", "validation/accuracy", "test/accuracy")
history = {name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in names}
pictures = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "test")]
print(json.dumps([run.info.run_name, run.info.status, run.data.params, history, pictures]))
"""
    told = subprocess.run(
        [sys.executable, "-c", read], cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ}
    )
    name, status, parameters, history, pictures = json.loads(told.stdout.splitlines()[-1])
    assert (name, status) == (found.folder.name, "FINISHED")
    assert {key: parameters[key] for key in ("student", "seed", "labels.weight")} == {
        "student": "digits_mlp",
        "seed": "0",
        "labels.weight": "1.0",
    }
    (line,) = found.metrics
    assert found.result is not None
    assert history["train/loss"] == [[1, pytest.approx(line["train"]["loss"])]]
    assert history["train/terms/labels"] == [[1, pytest.approx(line["train"]["terms"]["labels"])]]
    assert history["test/accuracy"] == [[1, found.result["test_accuracy"]]]
    assert pictures == ["test/confusion.png"]


@pytest.mark.slow
def test_weights_and_biases_keeps_a_killed_run_offline_as_one(tmp_path: Path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    pytest.importorskip("pytorch_lightning", reason="the extra wandb is not installed")
    assert command("wandb", tmp_path, kill=True).returncode == -9
    known = json.loads((only(tmp_path).folder / "loggers.json").read_text())["wandb"]
    assert known["epoch"] == 1
    done = command("wandb", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on without" not in done.stdout
    runs = sorted((tmp_path / "wandb").glob(f"offline-run-*-{known['run']}"))
    assert len(runs) == 2  # Two starts of one run, which `wandb sync` joins.
    rows = [row for folder in runs for row in history(next(folder.glob("*.wandb")))]
    (line,) = only(tmp_path).metrics
    trained = [row for row in rows if "train/loss" in row]
    assert [row["trainer/global_step"] for row in trained] == [1]
    assert trained[0]["train/loss"] == pytest.approx(line["train"]["loss"])
    assert any("test/confusion/filenames" in row for row in rows)
    result = only(tmp_path).result
    assert result is not None
    assert [row["test/accuracy"] for row in rows if "test/accuracy" in row] == [result["test_accuracy"]]


def history(path: Path) -> list[dict[str, Any]]:
    """The rows in an offline run's file: protocol buffers in LevelDB's log format, after a head of seven bytes."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore

    payload, place, whole = path.read_bytes(), 7, b""
    rows: list[dict[str, Any]] = []
    while place + 7 <= len(payload):
        if (rest := 32768 - place % 32768) < 7:  # Blocks of 32 KiB end in zeros where no head fits.
            place += rest
            continue
        _, length, kind = struct.unpack("<IHB", payload[place : place + 7])
        whole += payload[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # All of a message, or the last part of one.
            message: Any = wandb_internal_pb2.Record.FromString(whole)  # pyright: ignore
            items = message.history.item
            if items:
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
            whole = b""
    return rows
