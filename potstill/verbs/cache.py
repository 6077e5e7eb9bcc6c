"""The verb `cache`: teachers' stores filled ahead, listed and removed."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro

from potstill.errors import RunFailed, UserError
from potstill.record import STORES
from potstill.verbs.command import choices, conditions, number, parse, planned


@dataclass(frozen=True, kw_only=True)
class Cache:
    """What teachers said, on disk: shown, or removed. With a RECIPE and the flags of `run` its stores are filled ahead.

    Attributes:
        list: Show every store: what it holds, its size, how many answers were equal to the live teacher's when they
            were last compared, and after how many runs that show all of it it has paid for itself.
        drop: Remove the store with this key.
        runs_dir: Where run folders are.
    """

    list: bool = False
    drop: str | None = None
    runs_dir: Path = Path("runs")


def cache(words: list[str]) -> int:
    """`potstill cache RECIPE`, `--list` or `--drop KEY`."""
    if words and not words[0].startswith("-"):
        return _fill(words)
    flags = tyro.cli(Cache, prog="potstill cache", args=words)
    if flags.list and flags.drop is not None:
        raise UserError("--list and --drop were both given; one shows the stores, the other removes one: give either.")
    if not flags.list and flags.drop is None:
        raise UserError("Nothing was asked of the stores; write `potstill cache RECIPE`, --list, or --drop KEY.")
    from potstill.store.stock import HEAD, drop, rows_of, stocks
    from potstill.store.storage import told_size

    root = flags.runs_dir / STORES
    if flags.drop is not None:
        gone = drop(root, flags.drop)
        print(f"{gone.folder} is removed, {told_size(gone.size)}.")
    elif found := stocks(root):
        from potstill.verbs.preview import table

        print("\n".join(table(HEAD, rows_of(found))))
    else:
        print(f"There are no stores in {root}.")
    return 0


def _fill(words: list[str]) -> int:
    _, recipe, given, flags = parse("cache", words)
    from potstill.display import for_terminal
    from potstill.verbs.ahead import fill

    around = conditions(shlex.join(["potstill", "cache", *words]), flags)
    if not around.store:
        raise UserError("--store is 'off', so there is nothing to fill; give it a size such as 10GiB.")
    if flags.devices not in ("auto", "1"):
        raise UserError(f"--devices is {flags.devices}, but stores are filled and read by one process; leave it out.")
    runs = [member.run for member in planned(recipe, given, flags).members()]
    display = for_terminal(flags.quiet)
    try:
        failures = fill(runs, choices(flags), around, display, number("jobs", flags.jobs))
    finally:
        display.close()
    if failures:
        raise RunFailed(f"Not all was filled: {'; '.join(failure.reason for failure in failures)}.")
    return 0
