"""Commands that are stopped in the middle: a recipe whose processes halt at a step until a test lets them go on."""

import os
import select
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


def single():
    """One run."""
    return _run("single", Halting())


def small():
    """Batches that two cannot share."""
    return _run("small", Labels(), batch_size=3)
'''


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

    # What a shell starts in the background ignores interrupts, and so would the command.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
        thread.join(SECONDS)
        assert not thread.is_alive()
    finally:
        signal.signal(signal.SIGINT, before)
