"""A measure over the epochs of runs: its values, the range that they are drawn in, and its line."""

# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from potstill.record import Json
from potstill.report.rows import Row

EARLY = 0.25
"""The share of the epochs whose values may lie outside an axis, where they would press all others together."""

PRESSED = 3
"""How many times the range of the later values the whole range is then."""

Path = tuple[str, ...]
Keep = Callable[[Json], bool]


@dataclass(frozen=True, eq=False)
class Curve:
    """A measure over the epochs of one run, the first of which has this number."""

    first: int
    values: NDArray[np.float64]


def series(row: Row, path: Path, keep: Keep = lambda line: True) -> list[Curve]:
    """A measure over the epochs of every run of an arm, in order of seeds; nothing where no run has it."""
    curves: list[Curve] = []
    for entry in row.entries:
        lines = [(number, line) for number, line in enumerate(entry.epochs, start=1) if keep(line)]
        values = np.array([_value(line, path) for _, line in lines], dtype=np.float64)
        if values.size and np.isfinite(values).any():
            curves.append(Curve(lines[0][0], values))
    return curves


def _value(line: Json, path: Path) -> float:
    value: Any = line
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]
    return float(value) if isinstance(value, int | float) else float("nan")  # pyright: ignore[reportUnknownArgumentType]


def terms(row: Row, keep: Keep = lambda line: True) -> tuple[str, ...]:
    """The names of an arm's terms, in the order they were met."""
    found: dict[str, None] = {}
    for line in row.entries[0].epochs:
        if keep(line):
            found.update(dict.fromkeys(line["train"].get("terms") or {}))
    return tuple(found)


def aligned(curves: list[Curve], moved: bool) -> list[Curve]:
    """The curves of a stage, from its own first epoch where seeds begin it at unlike ones, after an early stop."""
    return [replace(curve, first=1) for curve in curves] if moved else curves


def whole_range(curves: Sequence[Curve], scale: float) -> tuple[float, float]:
    """The range of all values, with some space."""
    found = [scale * value for curve in curves for value in curve.values[np.isfinite(curve.values)]]
    low, high = min(found), max(found)
    space = 0.05 * (high - low or 1)
    return low - space, high + space


def later_range(curves: Sequence[Curve], scale: float) -> tuple[float, float] | None:
    """The range of the later values, where the early ones would leave them a third of the height or less."""
    if not curves:
        return None
    last = max(curve.first + len(curve.values) - 1 for curve in curves)
    late = [curve.values[max(0, round(EARLY * last) + 1 - curve.first) :] for curve in curves]
    some = np.concatenate(late) if any(part.size for part in late) else np.empty(0)
    every = np.concatenate([curve.values for curve in curves])
    some, every = some[np.isfinite(some)], every[np.isfinite(every)]
    if some.size < 2 or np.ptp(every) <= PRESSED * np.ptp(some) or not np.ptp(some):
        return None
    low, high = scale * float(some.min()), scale * float(some.max())
    space = 0.05 * (high - low)
    return low - space, high + space


def end(curves: Sequence[Curve], scale: float) -> float:
    """The mean of the runs' last values."""
    return float(np.mean([scale * curve.values[np.isfinite(curve.values)][-1] for curve in curves]))


def line(axes: Axes, curves: Sequence[Curve], scale: float, colour: str, dash: Any, name: str) -> None:
    """The mean and a band between the lowest and the highest seed, then each longer run by itself."""
    if not curves:
        return
    first = curves[0].first
    common = min(len(curve.values) for curve in curves)
    stack = scale * np.stack([curve.values[:common] for curve in curves])
    epochs = np.arange(first, first + common)
    marker = "o" if common == 1 else None
    axes.plot(epochs, stack.mean(axis=0), ls=dash, color=colour, label=name, marker=marker, ms=3)
    if len(curves) > 1:
        axes.fill_between(epochs, stack.min(axis=0), stack.max(axis=0), color=colour, alpha=0.16, lw=0)
    for curve in curves:
        if len(curve.values) > common:
            later = np.arange(first + common - 1, first + len(curve.values))
            axes.plot(later, scale * curve.values[common - 1 :], ls=dash, color=colour, lw=0.7, alpha=0.7)
