"""The verb `watch`."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from potstill.verbs.named import named_or_all


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
    from potstill.display import console
    from potstill.live.following import Following
    from potstill.live.standings import drawn, follow

    following = Following(named_or_all(flags.runs, "name sweeps, run folders, or where they are"))
    output = console()
    if flags.once or not output.is_terminal:
        output.print(drawn(following.look()))
        return 0
    with suppress(KeyboardInterrupt):  # Nothing is interrupted but looking.
        follow(following, output)
    return 0
