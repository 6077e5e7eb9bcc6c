"""What a person sees while runs train: a bar with the time left on a terminal, plain lines in a pipe, or nothing."""

import abc
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

WIDTH = 160
"""Characters of a line where the output is no terminal."""


def console() -> Console:
    """Standard output for tables: as wide as the terminal, without colours where it is none."""
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, force_terminal=terminal, width=None if terminal else WIDTH, highlight=False)


class Display(abc.ABC):
    """Told by the loop how far each cohort is; it decides what of that to show."""

    @abc.abstractmethod
    def line(self, text: str) -> None:
        """One sentence worth reading."""

    @abc.abstractmethod
    def begin(self, what: str, steps: int) -> None:
        """A cohort begins, called so, that will take this many steps at the most."""

    @abc.abstractmethod
    def at(self, what: str, step: int) -> None:
        """A cohort has taken this many steps; called at every step, so it must cost nothing."""

    @abc.abstractmethod
    def end(self, what: str) -> None:
        """A cohort has ended, perhaps early."""

    def close(self) -> None:
        """Nothing goes on any more, whatever was begun and has not ended."""
        return


class Silent(Display):
    """Nothing at all."""

    def line(self, text: str) -> None:
        """Not shown."""

    def begin(self, what: str, steps: int) -> None:
        """Not shown."""

    def at(self, what: str, step: int) -> None:
        """Not shown."""

    def end(self, what: str) -> None:
        """Not shown."""


QUIET_SECONDS = 10
"""A cohort that is done within so many seconds prints nothing in between."""


@dataclass
class _Course:
    """How far a cohort is."""

    steps: int
    start: float = field(default_factory=time.monotonic)
    shown: int = 0


class Lines(Display):
    """Plain lines, one for each quarter of a cohort: for pipes and logs."""

    def __init__(self) -> None:
        self._courses: dict[str, _Course] = {}

    def line(self, text: str) -> None:
        """Printed as it is."""
        print(text, flush=True)

    def begin(self, what: str, steps: int) -> None:
        """Printed with the number of steps."""
        self._courses[what] = _Course(max(steps, 1))
        self.line(f"{what}: {steps:,} steps")

    def at(self, what: str, step: int) -> None:
        """Printed at every quarter, with the seconds so far, unless the cohort has just begun."""
        course = self._courses[what]
        quarter = 4 * step // course.steps
        if course.shown < quarter < 4:
            course.shown = quarter
            seconds = time.monotonic() - course.start
            if seconds >= QUIET_SECONDS:
                self.line(f"{what}: {25 * quarter} % after {seconds:.0f} s")

    def end(self, what: str) -> None:
        """Printed with the seconds it took."""
        self.line(f"{what}: done after {time.monotonic() - self._courses.pop(what).start:.0f} s")


BESIDE = 46
"""Columns of a terminal that the bar, the count and the time take."""


def shortened(what: str, room: int) -> str:
    """A cohort's name in so many characters: the first of its runs, and the seed, which tells it from the others."""
    if len(what) <= room:
        return what
    seed = what[what.rfind(" (") :] if " (" in what else ""
    return f"{what[: max(room - len(seed) - 1, 1)]}…{seed}"


class Bars(Display):
    """A progress bar with the time left for each cohort under way, on standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._moved: dict[str, float] = {}

    def line(self, text: str) -> None:
        """Printed above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)

    def begin(self, what: str, steps: int) -> None:
        """A new bar."""
        self._progress.start()
        room = max(self._progress.console.width - BESIDE, 20)
        self._tasks[what] = self._progress.add_task(escape(shortened(what, room)), total=steps)

    def at(self, what: str, step: int) -> None:
        """Each bar moves ten times a second at the most."""
        now = time.monotonic()
        if now - self._moved.get(what, 0.0) > 0.1:
            self._moved[what] = now
            self._progress.update(self._tasks[what], completed=step)

    def end(self, what: str) -> None:
        """The bar is taken away."""
        self._progress.remove_task(self._tasks.pop(what))
        if not self._tasks:
            self._progress.stop()

    def close(self) -> None:
        """Every bar is taken away, and the cursor is back."""
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()
        self._progress.stop()


def for_terminal(quiet: bool) -> Display:
    """The display that fits where the output goes."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() and sys.stdout.isatty() else Lines()
