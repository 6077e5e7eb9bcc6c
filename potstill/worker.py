"""A process that trains one cohort, or has its part in one: `python -m potstill.worker`.

It gets a task as JSON on its input and tells news on its output.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from potstill import ranks
from potstill.codec import decode
from potstill.cohort import Conditions, train
from potstill.display import Display, Silent
from potstill.errors import TeacherRefused, UserError
from potstill.machine import Machine
from potstill.run import Run


class _Wire(Display):
    """News for the parent process, one JSON object a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told = 0.0

    def line(self, text: str) -> None:
        """Handed on."""
        self.tell(told="line", text=text)

    def begin(self, what: str, steps: int) -> None:
        """Handed on."""
        self.tell(told="begin", what=what, steps=steps)

    def at(self, what: str, step: int) -> None:
        """Handed on four times a second at the most."""
        now = time.monotonic()
        if now - self._told > 0.25:
            self._told = now
            self.tell(told="at", what=what, step=step)

    def end(self, what: str) -> None:
        """Handed on."""
        self.tell(told="end", what=what)

    def tell(self, **news: Any) -> None:
        """Write one object."""
        self._out.write(json.dumps(news) + "\n")
        self._out.flush()


def _end_with_parent() -> None:
    """Wait for the end of the input, which comes when the parent process ends; then end at once."""
    while os.read(0, 1024):  # Not through `sys.stdin`, whose lock a thread must not hold when Python ends.
        pass
    os._exit(1)


def main() -> int:
    """Train the cohort that the first line of the input describes, alone or as one of several."""
    wire = _Wire(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)  # What a network or a term of the user's prints is no news.
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    around: dict[str, Any] = task["conditions"]
    around["runs_dir"] = Path(around["runs_dir"])
    conditions, machine = Conditions(**around), Machine(**task["machine"])
    if machine.devices > 1:
        ranks.join(task["rank"], machine.devices, Path(task["store"]), machine.device)
    try:
        train([decode(Run, run) for run in task["runs"]], machine, conditions, wire if ranks.leads() else Silent())
    except UserError as mistake:
        kind = "refused" if isinstance(mistake, TeacherRefused) else "mistake"
        wire.tell(told=kind, text=str(mistake))
        return 0  # Whoever still waits for this process is ended by the one that started it.
    ranks.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
