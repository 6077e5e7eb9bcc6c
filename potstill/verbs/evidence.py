"""The verbs that weigh evidence: two runs against each other, and how many seeds a claim needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from potstill.errors import UserError
from potstill.verbs.named import named_or_all


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Two trained networks on the same test images, by McNemar's exact test.

    Attributes:
        first: A run folder.
        second: Another run folder of the same data.
    """

    first: Annotated[Path, tyro.conf.Positional]
    second: Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many seeds a claim needs, from the spread between the seeds of records.

    Attributes:
        runs: Sweep files, run folders, or folders of them; `runs` if none is named.
        difference: The difference in test accuracy that is to be shown, in percentage points.
        power: The chance of showing it.
        spread: Standard deviation of an arm's accuracy between seeds, in percentage points, instead of records; the
            seeds of two arms are then taken to have nothing in common.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    difference: float
    power: float = 0.8
    spread: float | None = None


def compare(words: list[str]) -> int:
    """`potstill compare RUN RUN`: print what their predictions say."""
    flags = tyro.cli(Compare, prog="potstill compare", args=words)
    from potstill.report.pair import lines, pair, sentence, state

    found = pair(flags.first, flags.second)
    heads, cells = lines(found)
    _table(heads, cells)
    for text in (state(found), *found.remarks, sentence(found)):
        print(text)
    return 0


def plan(words: list[str]) -> int:
    """`potstill plan --difference POINTS [RUNS…]`: print how many seeds it takes."""
    flags = tyro.cli(Plan, prog="potstill plan", args=words)
    from potstill.report.load import gather
    from potstill.report.planning import Aim, assumed, lines, recorded, sentence

    aim = Aim(flags.difference / 100, flags.power)
    if flags.spread is not None:
        if flags.runs:
            raise UserError("--spread was given beside runs; give either, for the runs have a spread of their own.")
        needs = [assumed(aim, flags.spread / 100)]
    else:
        runs = named_or_all(flags.runs, "name sweeps or runs, or give --spread")
        needs = recorded(aim, gather(runs).groups)
    heads, cells = lines(needs)
    _table(heads, cells)
    print(sentence(aim, needs))
    return 0


def _table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table: the words of its first columns to the left, its numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    from potstill.display import console

    output = console()
    table = Table(box=None, pad_edge=False, header_style="bold" if output.is_terminal else None)
    for place, head in enumerate(heads):
        words = all(not line[place][:1].isdigit() and line[place][:1] not in "><.\N{EN DASH}" for line in cells)
        table.add_column(Text(head), justify="left" if words or not place else "right")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    output.print(table)
