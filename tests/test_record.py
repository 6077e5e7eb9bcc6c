"""The run folder: what a kill, a cut or a stranger can do to it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import tiny
from safetensors import safe_open

from potstill import record
from potstill.errors import UserError
from potstill.run import fingerprint


def run_python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


def test_json_comes_back_as_it_was(tmp_path: Path):
    value = {"a": [1, 2.5, None, True], "b": {"text": "α"}, "third": 1 / 3}
    record.write_json(tmp_path / "file.json", value)
    assert record.read_json(tmp_path / "file.json") == value
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused_and_leave_the_old_file(number: float, tmp_path: Path):
    path = tmp_path / "file.json"
    record.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        record.write_json(path, {"a": number})
    with pytest.raises(ValueError, match="Out of range float"):
        record.append_line(path, {"a": number})
    assert record.read_json(path) == {"a": 1}


@pytest.mark.parametrize("payload", [b"", b"{", b'{"a": 1', b"[1]", b'"a"', b"\xff\xfe"])
def test_json_that_is_not_a_whole_object_is_not_there(payload: bytes, tmp_path: Path):
    path = tmp_path / "file.json"
    path.write_bytes(payload)
    assert record.read_json(path) is None
    assert record.read_json(tmp_path / "none.json") is None
    assert record.read_json(path / "below.json") is None


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_while_writing_leaves_the_old_file(moment: str, tmp_path: Path):
    path = tmp_path / "file.json"
    record.write_json(path, {"turn": 1})
    program = (
        "import os, signal, sys, pathlib; from potstill import record\n"
        f"os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "record.write_json(pathlib.Path(sys.argv[1]), {'turn': 2})\n"
    )
    assert run_python(program, path).returncode == -signal.SIGKILL
    (half,) = [entry for entry in tmp_path.iterdir() if entry != path]
    assert half.name.startswith("file.json.")
    assert half.suffix == ".tmp"  # As a run that goes on removes them.
    assert record.read_json(path) == {"turn": 1}
    record.write_json(path, {"turn": 3})
    assert record.read_json(path) == {"turn": 3}
    assert {entry.name for entry in tmp_path.iterdir()} == {"file.json", half.name}


def test_many_processes_may_write_one_file(tmp_path: Path):
    path = tmp_path / "file.json"
    program = (
        "import sys, pathlib; from potstill import record\n"
        "for turn in range(200): record.write_json(pathlib.Path(sys.argv[1]), {'turn': turn})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert record.read_json(path) == {"turn": 199}
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_appended_and_cut_back(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    assert record.read_lines(path) == []
    record.cut(path, 0)
    lengths = [record.append_line(path, {"epoch": epoch}) for epoch in range(3)]
    assert lengths == [13, 26, 39]
    assert path.stat().st_size == 39
    record.cut(path, 100)
    assert record.read_lines(path) == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}]
    record.cut(path, lengths[0])
    assert record.append_line(path, {"epoch": 7}) == lengths[1]
    assert record.read_lines(path) == [{"epoch": 0}, {"epoch": 7}]


def test_half_a_line_is_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 0}\n{"epoch": 1, "lo')
    assert record.read_lines(path) == [{"epoch": 0}]
    path.write_bytes(b'{"epoch": 0}\n{"epo\n{"epoch": 2}\n')
    with pytest.raises(UserError) as told:
        record.read_lines(path)
    assert str(told.value) == (
        f"{path} holds a line that is not JSON; the folder was damaged: delete {tmp_path} to run again."
    )


def stop_after(runs_dir: Path, steps: int, monkeypatch: pytest.MonkeyPatch, pause: float = 0) -> Path:
    """Train `tiny.run()` and give up before step number `steps`; returns its folder."""
    from potstill.learner import Learner

    class Stop(Exception):
        pass

    whole = Learner.step

    def step(self: Learner, batch: Any, teacher: Any, number: int) -> None:
        if number == steps:
            raise Stop
        whole(self, batch, teacher, number)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(Stop):
            tiny.train_in(runs_dir, [tiny.run()], pause=pause)
    (folder,) = runs_dir.iterdir()
    return folder


def test_lines_after_the_checkpoint_are_written_again(runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    (whole,) = tiny.train_in(runs_dir / "whole", [tiny.run()])
    folder = stop_after(runs_dir / "again", 9, monkeypatch)
    metrics = folder / "metrics.jsonl"
    payload = metrics.read_bytes()
    assert payload.count(b"\n") == 1
    # As if the process had gone on for an epoch and a half without a checkpoint.
    metrics.write_bytes(payload + b'{"epoch": 2, "step": 12}\n{"epoch": 3, "st')
    tiny.train_in(runs_dir / "again", [tiny.run()])
    assert metrics.read_bytes().startswith(payload)
    assert tiny.told(folder) == tiny.told(whole)


@pytest.mark.parametrize("payload", [b"", b'{"status": "fin', b"null"])
def test_a_result_cut_short_is_a_run_that_is_not_finished(payload: bytes, runs_dir: Path):
    (folder,) = tiny.train_in(runs_dir, [tiny.run()])
    before = tiny.told(folder)
    (folder / "result.json").write_bytes(payload)
    assert record.Record(folder).status == "unfinished"
    assert record.Record(folder).result is None
    tiny.train_in(runs_dir, [tiny.run()])
    assert tiny.told(folder) == before


def test_a_folder_of_a_newer_version_is_refused_and_left_alone(runs_dir: Path):
    (folder,) = tiny.train_in(runs_dir, [tiny.run()])
    newer = {**record.Record(folder).run, "format": record.FORMAT + 1, "version": "9.9"}
    record.write_json(folder / "run.json", newer)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    words = (
        f"{folder / 'run.json'} was written by Potstill 9.9, which is newer than this one; update Potstill to read it."
    )
    with pytest.raises(UserError) as told:
        tiny.train_in(runs_dir, [tiny.run()])
    assert str(told.value) == words
    with pytest.raises(UserError) as told:
        record.read(folder)
    assert str(told.value) == words
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_is_no_runs_is_told_apart(tmp_path: Path):
    with pytest.raises(UserError) as told:
        record.read(tmp_path)
    assert str(told.value) == (
        f"{tmp_path} is not a run folder: it holds no readable run.json; name a folder under runs/."
    )


def test_a_file_where_the_folder_should_be(runs_dir: Path):
    folder = record.folder_of(runs_dir, "run", fingerprint(tiny.run()))
    runs_dir.mkdir()
    folder.write_text("mine")
    with pytest.raises(UserError) as told:
        tiny.train_in(runs_dir, [tiny.run()])
    assert str(told.value) == f"{folder} cannot be a folder: a file stands in the way; name another place."
    assert folder.read_text() == "mine"


def test_a_file_where_the_runs_should_be(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    for runs_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be a folder: a file stands in the way; name another place\.$"):
            tiny.train_in(runs_dir, [tiny.run()])


def test_a_path_that_cannot_be_made():
    with pytest.raises(UserError) as told:
        record.make_folder(Path("/proc/potstill/run"))
    assert str(told.value) == (
        "/proc/potstill/run cannot be made (No such file or directory); name a place that can be written."
    )


def test_a_folder_that_another_process_holds_is_refused(runs_dir: Path):
    folder = record.folder_of(runs_dir, "run", fingerprint(tiny.run()))
    program = (
        "import sys, pathlib; from potstill import record\n"
        "folder = pathlib.Path(sys.argv[1]); record.make_folder(folder)\n"
        "with record.held(folder):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError) as told:
            tiny.train_in(runs_dir, [tiny.run()])
        assert str(told.value) == (f"Another process is training in {folder}; wait for it, or end it first.")
        assert not (folder / "run.json").exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
    # A kill lets go of it.
    tiny.train_in(runs_dir, [tiny.run(stages=[tiny.labels_only(1)]), tiny.run()])
    assert record.Record(folder).status == "finished"


def test_nothing_on_disk_is_a_pickle(runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    stop_after(runs_dir, 9, monkeypatch)
    seen: set[str] = set()
    for _ in range(2):
        for path in runs_dir.glob("*/*"):
            seen.add(path.name)
            payload = path.read_bytes()
            match path.suffix or path.name:
                case ".json":
                    assert isinstance(json.loads(payload), dict)
                case ".jsonl":
                    assert all(isinstance(json.loads(line), dict) for line in payload.splitlines())
                case ".safetensors":
                    with safe_open(path, framework="np") as file:
                        assert list(file.keys())
                case _:
                    assert (path.name, payload) == (".lock", b"")
        tiny.train_in(runs_dir, [tiny.run()])
    assert seen == {
        ".lock",
        "best.safetensors",
        "checkpoint.safetensors",
        "env.json",
        "metrics.jsonl",
        "predictions.safetensors",
        "result.json",
        "run.json",
        "student.safetensors",
        "summary.json",
    }
    assert not list(runs_dir.glob("*/checkpoint.safetensors"))


def test_a_folder_is_held_while_a_process_trains_in_it_and_whoever_asks_holds_nobody_up(tmp_path: Path):
    assert not record.is_held(tmp_path)
    assert not (tmp_path / ".lock").exists()
    with record.held(tmp_path):
        assert record.is_held(tmp_path)
        with pytest.raises(UserError, match="Another process is training in"), record.held(tmp_path):
            pass
    assert not record.is_held(tmp_path)
    # Somebody asks in just the moment in which a training begins.
    asking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, [asking]).start()
    with record.held(tmp_path):
        assert record.is_held(tmp_path)


def test_predictions_are_what_the_result_was_measured_on(runs_dir: Path):
    (folder,) = tiny.train_in(runs_dir, [tiny.run()])
    predictions = safetensors.numpy.load_file(folder / "predictions.safetensors")
    logits, labels = predictions["logits"], predictions["labels"]
    assert (logits.dtype, logits.shape, labels.tolist()) == ("float16", (20, 4), [i % 4 for i in range(20)])
    result = record.Record(folder).result
    assert result is not None
    assert result["test_accuracy"] == (logits.argmax(1) == labels).mean()
    assert result["epochs"] == len(record.Record(folder).metrics) == 4
    assert result["bitwise"] is True


def test_the_label_is_no_part_of_the_place(runs_dir: Path):
    (folder,) = tiny.train_in(runs_dir, [tiny.run("one / name", stages=[tiny.labels_only(1)])])
    assert folder.name == f"one---name-{record.Record(folder).fingerprint[:12]}"
    (again,) = tiny.train_in(runs_dir, [tiny.run("other", stages=[tiny.labels_only(1)])])
    assert again == folder
    assert [path.name for path in runs_dir.iterdir()] == [folder.name]


@pytest.mark.parametrize("steps", [0, 9])
def test_a_run_that_an_unlike_machine_goes_on_with_says_so(steps: int, runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    folder = stop_after(runs_dir, steps, monkeypatch)
    environment = record.read_json(folder / "env.json")
    assert environment is not None
    versions = {**environment["versions"], "torch": "2.9.0"}
    record.write_json(folder / "env.json", {**environment, "threads": 2, "versions": versions})
    tiny.train_in(runs_dir, [tiny.run()])
    found = record.Record(folder)
    assert found.result is not None
    if steps == 0:  # Nothing of the other machine's is left: the record is of this one alone.
        assert found.environment == environment
        assert found.result["bitwise"] is True
    else:
        differences = ["threads: 2 → 1", f"versions: {versions} → {environment['versions']}"]
        assert found.environment["resumed"] == [{"step": 9, "differences": differences}]
        assert found.environment["threads"] == 2
        assert found.result["bitwise"] is False


def test_a_file_that_cannot_be_read_or_is_of_no_format_is_told(runs_dir: Path):
    folder = runs_dir / "x-0123456789ab"
    (folder / "result.json").mkdir(parents=True)
    with pytest.raises(UserError) as mistake:
        _ = record.Record(folder).result
    assert str(mistake.value) == (
        f"{folder / 'result.json'} cannot be read (Is a directory); expected a file of a run, which this user may read."
    )
    record.write_json(folder / "run.json", {"format": "1"})
    with pytest.raises(UserError) as mistake:
        record.read(folder)
    assert str(mistake.value) == (
        f"{folder / 'run.json'} is damaged: its format is '1', not a whole number; restore the file."
    )
