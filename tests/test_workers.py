"""Cohorts side by side in processes: the same results, and none outlives the command that started it."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from potstill import UserError, fingerprint, recipes, record
from potstill.cli import main
from potstill.cohort import Conditions
from potstill.crew import train_beside
from potstill.display import Silent
from potstill.machine import Machine
from potstill.sweep import Group

SECONDS = 60
"""How long a test waits for what takes a few seconds on a quiet machine."""

RECIPE = '''
"""A term of the file's own can halt a training at a step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from potstill import Arm, Cosine, CropFlip, Data, Network, Optimizer, Run, Stage, Sweep, result_of
from potstill.methods import KD, Labels
from potstill.term import Knowledge


@dataclass(frozen=True, kw_only=True)
class Halting(Labels):
    """Labels; at step 30 the process tells its number and waits, if the test wants it to."""

    knowledge: ClassVar[Knowledge] = "label"

    def loss(self, batch, student, teacher, learned, progress):
        if progress.step == 30 and "HALT_AT" in os.environ:
            print("this is no news for the parent")
            with open(os.environ["HALT_AT"] + ".halted", "w") as pipe:
                pipe.write(f"{os.getpid()}\\n")
            with open(os.environ["HALT_AT"] + ".go") as pipe:
                pipe.read()
        return super().loss(batch, student, teacher, learned, progress)


def _run(name, *terms, epochs=3, teacher=None, batch_size=64):
    return Run(
        name=name,
        student=Network("digits_mlp", classes=10, channels=1),
        data=Data(name="digits", augment=CropFlip(padding=1, flip=False)),
        stages=(
            Stage(terms=terms, epochs=epochs, optimizer=Optimizer(options={"momentum": 0.9}), schedule=Cosine()),
        ),
        teacher=teacher,
        batch_size=batch_size,
        precision="fp32",
    )


def pair():
    """Two cohorts that are called the same, of one teacher."""
    teacher = result_of(_run("teacher", Labels()))
    runs = [_run("taught", Halting(), KD(), teacher=teacher, batch_size=size) for size in (64, 63)]
    return Sweep(arms=tuple(Arm(name=str(run.batch_size), run=run) for run in runs), seeds=(0,))
'''


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


def weights(runs_dir: Path) -> dict[str, bytes]:
    """Every finished student, by its run."""
    return {path.parent.name: path.read_bytes() for path in runs_dir.glob("*/student.safetensors")}


class Halts:
    """Worker processes that are held at a step until the test lets them go on."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch):
        self._place = place / "halt"
        monkeypatch.setenv("HALT_AT", str(self._place))
        for end in (".halted", ".go"):
            os.mkfifo(f"{self._place}{end}")
        self._told = os.open(f"{self._place}.halted", os.O_RDWR)  # To write as well, so that it has no end.

    def wait(self, count: int) -> list[int]:
        """The numbers of the next processes to halt, each with a handle that becomes readable when it ends."""
        numbers: list[int] = []
        while len(numbers) < count:
            ready, _, _ = select.select([self._told], [], [], SECONDS)
            assert ready, f"only {len(numbers)} processes have halted"
            numbers += [int(line) for line in os.read(self._told, 4096).split()]
        return [os.pidfd_open(number) for number in numbers]

    def let_go(self) -> None:
        """Whoever waits goes on."""
        with open(f"{self._place}.go", "w"):
            pass

    def close(self) -> None:
        os.close(self._told)


@pytest.fixture
def halts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system cannot wait for another's process")
    found = Halts(tmp_path, monkeypatch)
    yield found
    found.close()


def ended(process: int) -> bool:
    """Whether a process ends before the deadline."""
    ready, _, _ = select.select([process], [], [], SECONDS)
    os.close(process)
    return bool(ready)


@contextmanager
def meanwhile(action: Callable[[], None]) -> Generator[None, None, None]:
    """Does something while the command runs here; where that fails the command is interrupted, not waited for."""

    def act() -> None:
        try:
            action()
        except BaseException:
            os.kill(os.getpid(), signal.SIGINT)
            raise

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join(SECONDS)
    assert not thread.is_alive()


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
