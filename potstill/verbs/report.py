"""The verb `report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from potstill.verbs.named import named


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables and figures from run folders.

    Attributes:
        runs: Sweep files, run folders, or folders of them.
        out: Folder of `report.html`, and of its tables as `report.md`, `report.csv` and `report.tex`.
        save: Folder that also gets `<recipe>.json`, `.md`, `.csv` and `.tex`, the tables to keep.
        figures: Folder that also gets every figure for a paper, as PDF, SVG and PNG.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path = Path("report")
    save: Path | None = None
    figures: Path | None = None


def report(words: list[str]) -> int:
    """`potstill report RUNS…`: write it."""
    flags = tyro.cli(Report, prog="potstill report", args=words)
    from potstill.report import write

    print(write(named(flags.runs), flags.out, flags.save, flags.figures))
    return 0
