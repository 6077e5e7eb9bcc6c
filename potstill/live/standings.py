"""Runs as a table on a terminal, with what they are counted under it."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from potstill.live.following import Course, Following, Sight, Status

EVERY = 1.0
"""Seconds between two looks."""

NOTICES = 5
"""How many sentences about what is no run stand below the table on a terminal."""

DASH = "\N{EN DASH}"

_ORDER = {"running": 0, "stopped": 1, "diverged": 1, "finished": 1, "waiting": 2}
_COLOURS = {"running": "cyan", "stopped": "yellow", "diverged": "red", "finished": "green", "waiting": "bright_black"}


def follow(following: Following, console: Console) -> None:
    """Show the table anew until nothing more will come."""
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            sight = following.look()
            live.update(drawn(sight, console.height), refresh=True)
            if sight.over:
                return
            time.sleep(EVERY)


def drawn(sight: Sight, height: int | None = None) -> Group:
    """Runs as a table, a sentence that counts them, and one for whatever is no run.

    Args:
        sight: What there is.
        height: Lines that there is room for; None for as many as it takes.
    """
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


def _table(courses: Sequence[Course]) -> Table:
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


def _numbers(course: Course) -> list[str]:
    return [
        DASH if course.seed is None else str(course.seed),
        DASH if course.epochs is None else f"{course.epoch}/{course.epochs}",
        DASH if course.loss is None else f"{course.loss:.4g}",
        DASH if course.accuracy is None else f"{100 * course.accuracy:.2f}",
        DASH if course.best is None else f"{100 * course.best:.2f}",
        DASH if course.pace is None else f"{course.pace:,.0f}" if course.pace >= 10 else f"{course.pace:.2g}",
        DASH if course.left is None else _duration(course.left),
    ]


def _plain(text: str) -> Text:
    """As it is: an arm may be called [red]."""
    return Text(text)


def _status(status: Status) -> Text:
    return Text(status, style=_COLOURS[status])


def _counted(courses: Sequence[Course]) -> str:
    counts = Counter(course.status for course in courses)
    return ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds: 3:05, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
