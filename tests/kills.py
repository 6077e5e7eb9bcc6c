"""A process that trains cases of `tiny` in children of its own, which kill themselves at an exact moment.

`Nursery` is the test's side. The other side, this file run as a script, has imported everything once and forks a
child for each task: a real process, a real SIGKILL, without the seconds that an import costs.
"""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

KILLED = -signal.SIGKILL


class Script:
    """A script under way that reads tasks, a line each; it ends with the block that it is used in."""

    def __init__(self, script: str) -> None:
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._process.communicate()

    def ask(self, task: Mapping[str, Any]) -> str:
        """Its answer to a task, one line."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


class Nursery(Script):
    """Trains cases in child processes, one at a time."""

    def __init__(self) -> None:
        super().__init__(__file__)

    def train(self, case: str, runs_dir: Path, *, kill: str = "", at: int = 0, pause: float = 0.0, **more: Any) -> int:
        """Train a case; returns how the child ended: 0, or minus the number of the signal.

        Args:
            case: A name in `tiny.CASES`.
            runs_dir: Where.
            kill: One of `MOMENTS`; empty for none.
            at: Which of its kind: a step, an epoch, a stage, the how-manieth write.
            pause: Seconds between checkpoints.
            more: `ticks`: the clock goes by one second each time it is read; `compile`: compiled networks; `store`:
                bytes for what teachers say; `largest`: bytes of the largest file that can be written;
                `outlets`: whom the run tells.
        """
        task = {"case": case, "runs_dir": str(runs_dir), "kill": kill, "at": at, "pause": pause, **more}
        return int(self.ask(task))


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_epoch(at: int) -> None:
    """Right after a step, before anything is written."""
    from potstill.learner import Learner

    whole = Learner.step

    def step(self: Learner, batch: Any, teacher: Any, step: int) -> None:
        whole(self, batch, teacher, step)
        if step == at:
            _end()

    Learner.step = step


def _after_line(at: int) -> None:
    """Right after the line of an epoch was written."""
    from potstill import record

    whole = record.append_line

    def append_line(path: Path, value: Any) -> int:
        length = whole(path, value)
        if value["epoch"] == at:
            _end()
        return length

    record.append_line = append_line


def _in_line(at: int) -> None:
    """When half of the line of an epoch was written."""
    from potstill import record

    whole = record.append_line

    def append_line(path: Path, value: Any) -> int:
        before = path.stat().st_size if path.exists() else 0
        length = whole(path, value)
        if value["epoch"] == at:
            os.truncate(path, (before + length) // 2)
            _end()
        return length

    record.append_line = append_line


def _at_stage(at: int) -> None:
    """Right after a stage was entered that is not the first."""
    from potstill.training import Training

    whole = Training.end_epoch

    def end_epoch(self: Training, judged: Any) -> None:
        before = self.at.stage
        whole(self, judged)
        if self.at.stage == at != before:
            _end()

    Training.end_epoch = end_epoch


def _writing(name: str, half: bool) -> Callable[[int], None]:
    """While a file is replaced for the `at`-th time: its temporary half there, or just renamed."""

    def install(at: int) -> None:
        whole, count = os.replace, itertools.count(1)

        def replace(source: Path, target: Path) -> None:
            due = Path(target).name == name and next(count) == at
            if due and half:
                os.truncate(source, os.path.getsize(source) // 2)
                _end()
            whole(source, target)
            if due:
                _end()

        os.replace = replace

    return install


def _in_store(at: int) -> None:
    """When a part of what the `at`-th write brings to a teacher's store is written."""
    whole, count = os.pwrite, itertools.count(1)

    def pwrite(file: int, payload: Any, offset: int) -> int:
        if next(count) == at:
            whole(file, payload[: len(payload) * 2 // 3], offset)
            _end()
        return whole(file, payload, offset)

    os.pwrite = pwrite


MOMENTS: dict[str, Callable[[int], None]] = {
    "step": _in_epoch,
    "store": _in_store,
    "epoch": _after_line,
    "line": _in_line,
    "stage": _at_stage,
    "checkpoint": _writing("checkpoint.safetensors", half=True),
    "specification": _writing("run.json", half=False),
    "student": _writing("student.safetensors", half=False),
    "result half": _writing("result.json", half=True),
    "result": _writing("result.json", half=False),
}


def _train(task: dict[str, Any]) -> None:
    import tiny

    from potstill import cohort

    if task["kill"]:
        MOMENTS[task["kill"]](task["at"])
    if task.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["largest"], resource.RLIM_INFINITY))
    if task.get("ticks"):
        cohort.time = SimpleNamespace(monotonic=itertools.count().__next__)
    tiny.train_in(
        Path(task["runs_dir"]),
        tiny.CASES[task["case"]](),
        pause=task["pause"],
        compile=task.get("compile", False),
        store=task.get("store", 0),
        outlets=task.get("outlets", ()),
    )


def _main() -> None:
    import tiny

    with tempfile.TemporaryDirectory() as folder:  # The first training imports what the children need.
        tiny.train_in(Path(folder), [tiny.run(stages=[tiny.labels_only(1)])])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _train(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _main()
