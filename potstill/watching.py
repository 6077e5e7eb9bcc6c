"""The verb `watch`: a table of runs that goes on while they do."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from potstill.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    from potstill.following import Course, Following, Sight, Status

RUNS = Path("runs")
"""Where runs are looked for if no path is named."""

WIDTH = 160
"""Characters of a line where the output is no terminal."""

EVERY = 1.0
"""Seconds between two looks."""

NOTICES = 5
"""How many sentences about what is no run stand below the table on a terminal."""

DASH = "\N{EN DASH}"

_ORDER = {"running": 0, "stopped": 1, "diverged": 1, "finished": 1, "waiting": 2}
_COLOURS = {"running": "cyan", "stopped": "yellow", "diverged": "red", "finished": "green", "waiting": "bright_black"}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A table of runs under way and finished, which goes on until all of them are finished, or Ctrl-C.

    Attributes:
        runs: Sweep files, run folders, or folders of them; `runs` if none is named.
        once: Print the table once; so it is anyway where the output is no terminal.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    once: bool = False


def watch(words: list[str]) -> int:
    """`potstill watch RUNS…`: show it."""
    flags = tyro.cli(Watch, prog="potstill watch", args=words)
    if not flags.runs and not RUNS.exists():
        raise UserError("No runs were named and there is no folder runs; name sweeps, run folders, or where they are.")
    from rich.console import Console

    from potstill.following import Following

    following = Following(flags.runs or (RUNS,))
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, force_terminal=terminal, width=None if terminal else WIDTH, highlight=False)
    if flags.once or not terminal:
        console.print(drawn(following.look()))
        return 0
    with suppress(KeyboardInterrupt):  # Nothing is interrupted but looking.
        _follow(following, console)
    return 0


def _follow(following: "Following", console: "Console") -> None:
    """Show the table anew until nothing more will come."""
    from rich.live import Live

    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            sight = following.look()
            live.update(drawn(sight, console.height), refresh=True)
            if sight.over:
                return
            time.sleep(EVERY)


def drawn(sight: "Sight", height: int | None = None) -> "Group":
    """Runs as a table, a sentence that counts them, and one for whatever is no run.

    Args:
        sight: What there is.
        height: Lines that there is room for; None for as many as it takes.
    """
    from rich.console import Group
    from rich.text import Text

    # Runs under way keep their places; what ended last stands first.
    ended = ("stopped", "diverged", "finished")
    courses = sorted(sight.courses, key=lambda c: (_ORDER[c.status], -c.since if c.status in ended else 0.0))
    notices = [notice.sentence for notice in sight.notices]
    room = len(courses)
    if height is not None:
        if len(notices) > NOTICES:
            notices = [*notices[: NOTICES - 1], f"{len(notices) - NOTICES + 1} more cannot be shown."]
        room = max(height - len(notices) - 3, 1)  # The head, the count, and the line of the cursor.
        if room < len(courses):
            room = max(room - 1, 1)
    shown, hidden = courses[:room], courses[room:]
    lines = [f"… and {len(hidden)} more: {_counted(hidden)}"] if hidden else []
    lines.append(f"{_runs(len(courses))}: {_counted(courses)}" if courses else "There is no run yet.")
    texts = [Text(line, no_wrap=height is not None, overflow="ellipsis") for line in (*lines, *notices)]
    return Group(*([_table(shown)] if shown else []), *texts)


def _table(courses: "Sequence[Course]") -> "Table":
    from rich.table import Table

    several = len({course.recipe for course in courses}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("status", *(["recipe"] if several else []), "arm"):
        table.add_column(head, no_wrap=True, overflow="ellipsis", min_width=8 if head != "arm" else 4)
    for head in ("seed", "epoch", "loss", "val. %", "best %", "steps/s", "left"):
        table.add_column(head, justify="right", no_wrap=True)
    for course in courses:
        first = [_status(course.status), *([_plain(course.recipe)] if several else []), _plain(course.arm)]
        table.add_row(*first, *map(_plain, _numbers(course)))
    return table


def _numbers(course: "Course") -> list[str]:
    return [
        DASH if course.seed is None else str(course.seed),
        DASH if course.epochs is None else f"{course.epoch}/{course.epochs}",
        DASH if course.loss is None else f"{course.loss:.4g}",
        DASH if course.accuracy is None else f"{100 * course.accuracy:.2f}",
        DASH if course.best is None else f"{100 * course.best:.2f}",
        DASH if course.pace is None else f"{course.pace:,.0f}" if course.pace >= 10 else f"{course.pace:.2g}",
        DASH if course.left is None else _duration(course.left),
    ]


def _plain(text: str) -> "Text":
    """As it is: an arm may be called [red]."""
    from rich.text import Text

    return Text(text)


def _status(status: "Status") -> "Text":
    from rich.text import Text

    return Text(status, style=_COLOURS[status])


def _counted(courses: "Sequence[Course]") -> str:
    counts = Counter(course.status for course in courses)
    return ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds: 3:05, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
