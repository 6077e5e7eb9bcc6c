"""The verb `watch`."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from potstill.errors import UserError

RUNS = Path("runs")
"""Where runs are looked for if no path is named."""

WIDTH = 160
"""Characters of a line where the output is no terminal."""


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

    from potstill.live.following import Following
    from potstill.live.standings import drawn, follow

    following = Following(flags.runs or (RUNS,))
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, force_terminal=terminal, width=None if terminal else WIDTH, highlight=False)
    if flags.once or not terminal:
        console.print(drawn(following.look()))
        return 0
    with suppress(KeyboardInterrupt):  # Nothing is interrupted but looking.
        follow(following, console)
    return 0
