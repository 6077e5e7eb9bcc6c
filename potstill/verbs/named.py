"""The runs that a command names."""

from collections.abc import Sequence
from pathlib import Path

from potstill.errors import UserError

RUNS = Path("runs")
"""Where a command that only looks takes them from if no path is named."""


def named(paths: Sequence[Path]) -> Sequence[Path]:
    """The paths, of which there must be one.

    Raises:
        UserError: none was named.
    """
    if not paths:
        raise UserError(
            "No runs were named; give a sweep file such as runs/mnist-hinton.sweep.json, or the folder runs."
        )
    return paths


def named_or_all(paths: Sequence[Path], otherwise: str) -> Sequence[Path]:
    """The paths, or the folder of runs where none was named.

    Args:
        paths: What was named.
        otherwise: What else a person can do where there is neither.

    Raises:
        UserError: none was named, and there is no such folder.
    """
    if not paths and not RUNS.exists():
        raise UserError(f"No runs were named and there is no folder runs; {otherwise}.")
    return paths or (RUNS,)
