"""How long it takes until something can happen: each a real process, from its start to its end."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rounds import in_turn
from benchmarks.table import Table

REPETITIONS = 9


def measure(repetitions: int = REPETITIONS) -> Table:
    """Seconds of wall time, against a Python that does nothing."""
    potstill = str(Path(sys.executable).with_name("potstill"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import potstill": [sys.executable, "-c", "import potstill"],
        "potstill --help": [potstill, "--help"],
        "potstill run digits:quickstart --help": [potstill, "run", "digits:quickstart", "--help"],
        "potstill report --help": [potstill, "report", "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    rows = in_turn({name: _timed(words) for name, words in commands.items()}, repetitions)
    return Table("Start-up of a process", "seconds", rows)


def _timed(words: list[str]) -> Callable[[], float]:
    def once() -> float:
        started = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    return once
