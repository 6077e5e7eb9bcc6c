"""Cohorts side by side in processes: the same results, and none outlives the command that started it."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from sklearn.datasets import load_digits
from stopping import RECIPE, SECONDS, Halts, ended, meanwhile, weights
from stopping import halts as halts

from potstill import Data, Network, Optimizer, Run, Stage, UserError, fingerprint, recipes, record, result_of
from potstill.cli import main
from potstill.cohort import Conditions
from potstill.crew import train_beside
from potstill.display import Silent
from potstill.execution import execute
from potstill.machine import Choices, Machine
from potstill.methods import KD, Labels
from potstill.sweep import Group


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recipes' file."""
    path = tmp_path_factory.mktemp("recipes") / "halting.py"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="module")
def alone(file: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of the teacher and both students, trained one after the other in this process."""
    runs_dir = tmp_path_factory.mktemp("alone")
    assert main(["run", f"{file}:pair", "--jobs", "1", "--quiet", "--runs-dir", str(runs_dir)]) == 0
    found = weights(runs_dir)
    assert sorted(name.partition("-")[0] for name in found) == ["taught", "taught", "teacher"]
    return found


def test_cohorts_side_by_side_are_bitwise_those_one_after_the_other(
    file: str, alone: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert main(["run", f"{file}:pair", "--jobs", "2", "--runs-dir", str(tmp_path)]) == 0
    assert weights(tmp_path) == alone
    out, err = capfd.readouterr()
    assert err == ""
    # The cohorts are called the same; where they are under way together one is told apart.
    begun = re.findall(r"^(taught \(seed 0\)(?: · \w{6})?): 57 steps$", out, re.MULTILINE)
    assert len(begun) == 2
    assert sorted(begun) == sorted(re.findall(r"^(taught .*): done after \d+ s$", out, re.MULTILINE))


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed_and_the_next_start_goes_on(
    file: str, alone: dict[str, bytes], tmp_path: Path, halts: Halts, monkeypatch: pytest.MonkeyPatch
):
    command = ["run", f"{file}:pair", "--jobs", "2", "--runs-dir", str(tmp_path / "runs")]
    with subprocess.Popen([sys.executable, "-m", "potstill.cli", *command], stdout=subprocess.DEVNULL) as parent:
        workers = halts.wait(2)
        parent.kill()
        assert parent.wait(SECONDS) == -signal.SIGKILL
    for worker in workers:
        assert ended(worker)
    assert [name.partition("-")[0] for name in weights(tmp_path / "runs")] == ["teacher"]
    monkeypatch.delenv("HALT_AT")
    assert main([*command, "--jobs", "1", "--quiet"]) == 0
    assert weights(tmp_path / "runs") == alone


@pytest.mark.slow
def test_a_worker_that_dies_is_one_failed_cohort(
    file: str, alone: dict[str, bytes], tmp_path: Path, halts: Halts, capfd: pytest.CaptureFixture[str]
):
    def kill() -> None:
        first, second = halts.wait(2)
        signal.pidfd_send_signal(first, signal.SIGKILL)
        assert ended(first)
        halts.let_go()
        assert ended(second)

    with meanwhile(kill):
        status = main(["run", f"{file}:pair", "--jobs", "2", "--runs-dir", str(tmp_path / "runs")])
    out, err = capfd.readouterr()
    assert status == 1
    assert err.splitlines() == [
        "this is no news for the parent",
        "this is no news for the parent",
        "potstill: 1 of 2 runs failed: taught (seed 0): the process ended with status -9.",
    ]
    finished = weights(tmp_path / "runs")
    assert len(finished) == 2
    assert finished.items() < alone.items()
    assert out.splitlines()[-1] == f"potstill report {tmp_path / 'runs' / 'halting.py-pair.sweep.json'}"


def test_an_interrupt_ends_the_workers_at_once(
    file: str, tmp_path: Path, halts: Halts, capsys: pytest.CaptureFixture[str]
):
    handles: list[int] = []

    def interrupt() -> None:
        handles.extend(halts.wait(2))
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(interrupt):
        status = main(["run", f"{file}:pair", "--jobs", "2", "--quiet", "--runs-dir", str(tmp_path / "runs")])
    assert status == 130
    assert capsys.readouterr().err == "potstill: interrupted; start the same command again to continue.\n"
    assert len(handles) == 2
    for handle in handles:
        assert ended(handle)


def test_a_mistake_that_a_worker_finds_is_raised_here(file: str, tmp_path: Path):
    run = recipes.find(f"{file}:pair")().arms[0].run.teacher.run
    taken = record.folder_of(tmp_path, run.name, fingerprint(run))
    taken.mkdir()
    conditions = Conditions(runs_dir=tmp_path, environment={"command": "test"})
    with record.held(taken), pytest.raises(UserError) as mistake:
        train_beside([Group((run,), Machine())], conditions, Silent(), jobs=1)
    assert str(mistake.value) == f"Another process is training in {taken}; wait for it, or end it first."


def test_what_a_teachers_run_holds_in_this_process_is_not_handed_to_a_worker(tmp_path: Path):
    pixels, labels = cast(tuple[np.ndarray, np.ndarray], load_digits(return_X_y=True))
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    held = Data.given((images[:1500], labels[:1500], images[1500:], labels[1500:]))
    network, adam = Network("digits_mlp", 10, 1), Optimizer(name="Adam", learning_rate=0.01)
    above = Run(name="above", student=network, data=held, stages=(Stage(terms=(Labels(),), epochs=3, optimizer=adam),))
    soft = Stage(terms=(KD(),), epochs=1, optimizer=adam)
    first = Run(name="pupil", student=network, data=Data(name="digits"), stages=(soft,), teacher=result_of(above))
    runs = [first, replace(first, seed=1)]
    conditions = Conditions(runs_dir=tmp_path, environment={"command": "test"})
    assert execute(runs, Choices(threads=1), conditions, Silent(), 2) == []
    assert len(list(tmp_path.glob("*/result.json"))) == 3
