"""Commands that train with several processes: what they leave, and that none outlives another."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch
from stopping import RECIPE, SECONDS, Halts, ended, meanwhile
from stopping import halts as halts

from potstill import UserError, fingerprint, recipes, record
from potstill.cli import main
from potstill.cohort import Conditions
from potstill.crew import train_beside
from potstill.display import Silent
from potstill.execution import check, machine_for
from potstill.machine import Choices, Machine, describe, devices_of, differences
from potstill.run import Run
from potstill.sweep import Group


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipes") / "halting.py"
    path.write_text(RECIPE)
    return str(path)


def command(file: str, runs_dir: Path, *more: str) -> list[str]:
    return ["run", f"{file}:single", "--quiet", "--runs-dir", str(runs_dir), *more]


def only(runs_dir: Path) -> record.Record:
    (folder,) = (path for path in runs_dir.iterdir() if path.is_dir())
    return record.read(folder)


@pytest.mark.slow
def test_where_one_process_dies_all_end_and_the_next_start_goes_on(
    file: str, tmp_path: Path, halts: Halts, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def kill() -> None:
        first, second = halts.wait(2)
        signal.pidfd_send_signal(first, signal.SIGKILL)
        assert ended(first)
        assert ended(second)

    with meanwhile(kill):
        status = main(command(file, tmp_path / "two", "--devices", "2"))
    assert status == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("potstill: 1 of 1 runs failed: single (seed 0): process ")
    assert last.endswith(" of 2 ended with status -9.")
    monkeypatch.delenv("HALT_AT")
    # What was begun with two goes on with two, unless something else is said.
    assert main(command(file, tmp_path / "two")) == 0
    two = only(tmp_path / "two")
    assert two.environment["devices"] == 2
    assert len(list(two.folder.glob("events.*"))) == 2  # Of two starts; one process of each writes.
    assert main(command(file, tmp_path / "one")) == 0
    one = only(tmp_path / "one")
    assert one.environment["devices"] == 1
    assert one.folder.name == two.folder.name
    want, found = (safetensors.torch.load_file(each.folder / "student.safetensors") for each in (one, two))
    for name, value in want.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_an_interrupt_ends_all_of_them(file: str, tmp_path: Path, halts: Halts):
    handles: list[int] = []

    def interrupt() -> None:
        handles.extend(halts.wait(2))
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(interrupt):
        status = main(command(file, tmp_path, "--devices", "2"))
    assert status == 130
    assert [ended(handle) for handle in handles] == [True, True]


@pytest.mark.slow
def test_they_end_with_a_parent_that_was_killed(file: str, tmp_path: Path, halts: Halts):
    words = [sys.executable, "-m", "potstill.cli", *command(file, tmp_path, "--devices", "2")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as parent:
        handles = halts.wait(2)
        parent.kill()
        assert parent.wait(SECONDS) == -signal.SIGKILL
    assert [ended(handle) for handle in handles] == [True, True]


@pytest.mark.slow
def test_a_mistake_that_the_first_one_finds_is_raised_here_and_ends_the_others(file: str, tmp_path: Path):
    run = recipes.find(f"{file}:single")()
    taken = record.folder_of(tmp_path, run.name, fingerprint(run))
    taken.mkdir()
    conditions = Conditions(runs_dir=tmp_path, environment={"command": "test"})
    with record.held(taken), pytest.raises(UserError) as mistake:
        train_beside([Group((run,), Machine(devices=2))], conditions, Silent(), jobs=1)
    assert str(mistake.value) == f"Another process is training in {taken}; wait for it, or end it first."


def refused(run: Run, runs_dir: Path, devices: int) -> str:
    with pytest.raises(UserError) as mistake:
        check([run], Choices(devices=devices), runs_dir)
    return str(mistake.value)


def test_what_cannot_be_divided_is_refused(file: str, tmp_path: Path):
    small = recipes.find(f"{file}:small")()
    assert refused(small, tmp_path, 2) == (
        "--devices is 2, but a batch of 'small' has 3 images, and each device takes at least 2; ask for fewer devices, "
        "or larger batches."
    )
    live = tiny.run("live", student=tiny.dropping(), stages=[tiny.labels_only()], teacher=None)
    assert refused(live, tmp_path, 2) == (
        "--devices is 2, but 'live' holds a network or images of this process, which cannot be handed to others; name "
        "a network as package.module:callable and a data set by its name, or leave --devices out."
    )
    with pytest.raises(UserError, match=r"^--devices is 0; expected a whole number ≥ 1\.$"):
        Choices(devices=0)
    with pytest.raises(UserError, match=r"^--devices is 2, but there is 1 of mps here; ask for no more\.$"):
        devices_of("mps", 2)
    many = torch.cuda.device_count() + 1
    with pytest.raises(UserError, match=rf"^--devices is {many}, but there (is|are) {many - 1} of cuda here; ask for"):
        devices_of("cuda", many)


def test_threads_are_divided_among_the_processes():
    from potstill import machine

    one, two = (Choices(device="cpu", devices=count).resolve(10**9, "fp32") for count in (1, 2))
    assert two.devices == 2
    assert one.threads == machine.DEFAULT_THREADS
    assert two.threads == max(machine.DEFAULT_THREADS // 2, 1)


def test_a_record_from_before_there_were_devices_goes_on_with_one(file: str, tmp_path: Path):
    run = recipes.find(f"{file}:single")()
    folder = record.folder_of(tmp_path, run.name, fingerprint(run))
    folder.mkdir()
    begun = replace(Choices().resolve(1, "fp32"), threads=3)
    before = {key: value for key, value in asdict(begun).items() if key != "devices"}
    record.write_json(folder / "env.json", before)
    assert machine_for(run, Choices(), tmp_path) == begun
    assert differences({**describe(begun), **before}, describe(begun)) == []
    record.write_json(folder / "env.json", {**before, "devices": 2})
    if begun.device == "cpu":
        assert machine_for(run, Choices(), tmp_path) == replace(begun, devices=2)
        assert machine_for(run, Choices(devices=1), tmp_path).devices == 1
