"""`python -m benchmarks [NAME …]`: the measurements, all of them or those named."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import filling, memory, pixels, reaching, startup, steps
from benchmarks.machine import conditions, here, slug
from benchmarks.table import Table
from potstill.record import read_json, write_json

MEASUREMENTS: dict[str, Callable[..., Table]] = {
    "startup": startup.measure,
    **steps.MEASUREMENTS,
    "store": filling.measure,
    "seconds": reaching.measure,
    "pixels": pixels.measure,
    "memory": memory.measure,
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and replace the tables of the same names in this machine's file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What Potstill costs on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; all if none is given")
    parser.add_argument("--repetitions", type=int, help="of every alternative; each measurement's own if not given")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the file")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(MEASUREMENTS):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; expected {', '.join(MEASUREMENTS)}")
    if asked.repetitions is not None and asked.repetitions < 1:
        parser.error(f"--repetitions is {asked.repetitions}; expected a whole number of at least 1")
    if here().device != "cuda":
        print("There is no CUDA device here; where there is one, the same command measures that.\n", flush=True)
    path = asked.results / f"{slug()}.json"
    for name in asked.names or MEASUREMENTS:
        before = conditions()
        options = {} if asked.repetitions is None else {"repetitions": asked.repetitions}
        table = MEASUREMENTS[name](**options)
        after = conditions()
        print(f"{table.text()}\n  load before {before['load'][0]:.2f}, after {after['load'][0]:.2f}\n", flush=True)
        add(path, name, {**table.plain(), "conditions": {**before, "load_after": after["load"]}})
    print(path)


def add(path: Path, name: str, table: dict[str, object]) -> None:
    """Put one table into a file, beside those of other names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = (read_json(path) or {}).get("tables", {})
    write_json(path, {"machine": path.stem, "tables": {**kept, name: table}})


if __name__ == "__main__":
    main()
