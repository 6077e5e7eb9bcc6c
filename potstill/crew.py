"""Processes that train cohorts side by side, and several of them one; each a `potstill.worker`.

None of them outlives this process, nor another that trains the same cohort.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from potstill.codec import encode
from potstill.cohort import Conditions
from potstill.display import Display
from potstill.errors import UserError
from potstill.run import fingerprint
from potstill.sweep import Group


def train_beside(groups: Sequence[Group], conditions: Conditions, display: Display, jobs: int) -> list[str | None]:
    """Train cohorts, `jobs` at a time; returns for each why it came to no end, None where it did.

    Raises:
        UserError: a worker found one; the others are ended, and so they are by an interrupt.
    """
    crew = _Crew(conditions, display)
    pool = ThreadPoolExecutor(jobs)
    futures = [pool.submit(crew.train, group) for group in groups]
    try:
        for future in as_completed(futures):
            future.result()
    except BaseException:
        crew.end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


_Ended = tuple[str | None, str | None]
"""The user's mistake that a worker found, and why its teacher was refused; None for neither."""


class _Crew:
    """The workers under way."""

    def __init__(self, conditions: Conditions, display: Display):
        self._conditions = conditions
        self._display = display
        self._lock = threading.Lock()  # Held while the display is told something, and while the crew changes.
        self._running: list[subprocess.Popen[str]] = []
        self._shown: set[str] = set()
        self._over = False

    def end(self) -> None:
        """Kill every process and start no other; what they trained goes on from their checkpoints."""
        with self._lock:
            self._over = True
            for process in self._running:
                process.kill()

    def train(self, group: Group) -> str | None:
        """Train a cohort in processes of its own, one for each device; returns why it came to no end, or None.

        Raises:
            UserError: one of them found one.
        """
        count = group.machine.devices
        with tempfile.TemporaryDirectory(prefix="potstill-") as folder, ThreadPoolExecutor(count) as threads:
            with self._lock:
                if self._over:
                    return None
                team = _Team([_start() for _ in range(count)])
                self._running += team.processes
            task = self._task(group) | {"store": str(Path(folder) / "store")}
            for rank in range(count):
                threads.submit(self._follow, team, rank, task, group)
        with self._lock:
            self._running = [process for process in self._running if process not in team.processes]
        if team.mistake is not None:
            raise UserError(team.mistake)
        return team.reason

    def _follow(self, team: "_Team", rank: int, task: dict[str, Any], group: Group) -> None:
        """Tell one process what to do, and listen to it until it ends."""
        process = team.processes[rank]
        assert process.stdin
        assert process.stdout
        ended: _Ended = (None, None)
        try:
            process.stdin.write(json.dumps(task | {"rank": rank}) + "\n")
            process.stdin.flush()  # It stays open: when this process dies the worker reads the end of it, and ends.
            ended = self._listen(process.stdout, group)
        except BrokenPipeError:
            pass  # It died before it was told what to do; its status says so.
        status = process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):  # What it was not told stands in the buffer.
            process.stdin.close()
        with self._lock:
            team.ended(rank, status, *ended)

    def _task(self, group: Group) -> dict[str, Any]:
        return {
            "runs": [encode(run) for run in group.runs],
            "machine": asdict(group.machine),
            "conditions": {**asdict(self._conditions), "runs_dir": str(self._conditions.runs_dir)},
        }

    def _listen(self, news: Iterable[str], group: Group) -> _Ended:
        """Hand on what a worker tells until it ends."""
        mistake = refused = None
        shown = ""
        for line in news:
            told = json.loads(line)
            with self._lock:
                match told["told"]:
                    case "line":
                        self._display.line(told["text"])
                    case "begin":
                        shown = told["what"]
                        if shown in self._shown:  # Two cohorts may differ in, say, the batch size alone.
                            shown = f"{shown} · {fingerprint(group.runs[0])[:6]}"
                        self._shown.add(shown)
                        self._display.begin(shown, told["steps"])
                    case "at":
                        self._display.at(shown, told["step"])
                    case "end":
                        self._display.end(shown)
                        self._shown.discard(shown)
                    case "refused":
                        refused = told["text"]
                    case _:
                        mistake = told["text"]
        return mistake, refused


@dataclass
class _Team:
    """The processes that train one cohort; where one fails, all end."""

    processes: list[subprocess.Popen[str]]
    mistake: str | None = None
    reason: str | None = None

    def ended(self, rank: int, status: int, mistake: str | None, refused: str | None) -> None:
        """Take down how a process ended; only the first that fails tells why, for it takes the others with it."""
        if not (mistake or refused or status) or self.mistake or self.reason:
            return
        which = f"process {rank + 1} of {len(self.processes)}" if len(self.processes) > 1 else "the process"
        self.mistake, self.reason = mistake, refused or f"{which} ended with status {status}"
        for process in self.processes:
            process.kill()


def _start() -> subprocess.Popen[str]:
    # What can be imported here can be imported there; and the terminal's interrupt reaches this process only.
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "potstill.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
