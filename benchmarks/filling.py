"""What it costs to keep what a teacher says: its passes without a store, with one that is filled, and what they save.

A turn shows every image in one view. Another run of the same teacher, with a store of its own in the same folder, reads
the turns that the first one wrote.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from benchmarks.pairs import CIFAR, IMAGES, Bench, Pair
from benchmarks.rounds import in_turn
from benchmarks.table import Table
from potstill.store.storage import LIMIT, Storage
from potstill.teachers.source import Source

REPETITIONS = 15


def measure(repetitions: int = REPETITIONS, pair: Pair = CIFAR["resnet32x4"]) -> Table:
    """Images per second of a turn."""
    bench = Bench(pair)
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:

        def stored() -> Source:
            return bench.source(storage=Storage(Path(folder), LIMIT, "noise", repetitions + 1, print))

        ways: dict[str, Callable[[], float]] = {
            "asked": _turns(bench, bench.source(), count()),
            "asked and stored": _turns(bench, stored(), count()),
            "read by another run": _turns(bench, stored(), count()),
        }
        rows = in_turn(ways, repetitions)
        (written,) = Path(folder).glob("*/train-*.rows")
        size = written.stat().st_size
    told = f"{size / IMAGES / (repetitions + 1):.0f} bytes an image and view"
    return Table(f"The teacher's store, {pair.teacher.name}: {bench.told()}; {told}", "images/s", rows)


def _turns(bench: Bench, source: Source, turns: Iterator[int]) -> Callable[[], float]:
    def once() -> float:
        turn = next(turns)
        bench.machine.activate()
        bench.wait()
        started = time.perf_counter()
        source.answers(bench.resident.train, turn)
        bench.wait()
        return IMAGES / (time.perf_counter() - started)

    return once
