"""Learning curves: what is the same measure for all arms in one drawing, each arm's objective in others."""

# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from potstill.record import Json
from potstill.report.figures import Marks
from potstill.report.matrix import cut
from potstill.report.plate import COLOURED, Panel, Plate, few
from potstill.report.rows import Row, chosen, students
from potstill.report.size import below, legend
from potstill.report.style import SMALL, WIDE, Style
from potstill.report.words import accuracy

APART = 12
"""How many arms have a drawing of their own at most."""

EARLY = 0.25
"""The share of the epochs whose values may lie outside an axis, where they would press all others together."""

PRESSED = 3
"""How many times the range of the later values the whole range is then."""

TITLE = 36
"""How many letters there is room for above a drawing."""

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


def together(name: str, table: Sequence[Row], marks: Marks) -> list[Plate]:
    """Validation accuracy and NLL of the arms: the two measures that are the same for every objective."""
    arms = students(table)
    shown = chosen(arms, COLOURED)
    measures = (
        ("accuracy", "Validation accuracy", "accuracy, %", 100.0),
        ("nll", "Validation NLL", "NLL, nats", 1.0),
    )
    plates: list[Plate] = []
    for key, heading, unit, scale in measures:
        split = "validation"
        found = [(row, series(row, (split, key))) for row in shown]
        if not any(curves for _, curves in found) and key == "accuracy":
            split, heading = "train", "Training accuracy"
            found = [(row, series(row, (split, key))) for row in shown]
        if not any(curves for _, curves in found):
            continue
        window = _window([curve for _, curves in found for curve in curves], scale)
        caption = f"{_band(shown)} The measure is the same for every arm.{_outside(window)}{few(shown, arms)}"
        ends = "; ".join(f"{row.arm} ends at {_end(curves, scale):.4g}" for row, curves in found if curves)
        draw = _overlay(unit, scale, found, marks, window)
        panel = Panel(f"{name}-{split}-{key}", f"{heading} by epoch", f"Mean over seeds: {ends}.", draw)
        plates.append(Plate(heading, caption, (panel,), wide=True))
    return plates


def _overlay(
    unit: str, scale: float, found: Sequence[tuple[Row, list[Curve]]], marks: Marks, window: tuple[float, float] | None
) -> Callable[[Style], Figure]:
    def draw(style: Style) -> Figure:
        with style.drawing(WIDE, 2.5) as (figure, axes):
            for row, curves in found:
                mark = marks[row.arm]
                _draw(axes, curves, scale, mark.colour(style), mark.dash, legend(row.arm))
            axes.set(xlabel="epoch", ylabel=unit)
            axes.margins(x=0.02)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if window is not None:
                axes.set_ylim(window)
            below(figure, axes, [legend(row.arm) for row, curves in found if curves], left=0.52)
        return figure

    return draw


def _shared(curves: Sequence[Curve], scale: float) -> tuple[float, float]:
    """The range of all values, with some space."""
    found = [scale * value for curve in curves for value in curve.values[np.isfinite(curve.values)]]
    low, high = min(found), max(found)
    space = 0.05 * (high - low or 1)
    return low - space, high + space


def _window(curves: Sequence[Curve], scale: float) -> tuple[float, float] | None:
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


def _outside(window: tuple[float, float] | None) -> str:
    return "" if window is None else " The first epochs lie outside, so that the later ones can be told apart."


def _end(curves: Sequence[Curve], scale: float) -> float:
    return float(np.mean([scale * curve.values[np.isfinite(curve.values)][-1] for curve in curves]))


def _draw(axes: Axes, curves: Sequence[Curve], scale: float, colour: str, dash: Any, name: str) -> None:
    """Mean line and the band between the lowest and the highest seed, then each longer run by itself."""
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


def _band(arms: Sequence[Row]) -> str:
    if all(row.n == 1 for row in arms):
        return "One run per arm."
    text = "Line: mean over seeds; band: from the lowest to the highest seed."
    unlike = any(len({len(entry.epochs) for entry in row.entries}) > 1 for row in arms)
    return text + (" Where some seeds stopped early, the others go on as thin lines." if unlike else "")


def apart(name: str, table: Sequence[Row], limit: int, marks: Marks) -> list[Plate]:
    """At most `limit` arms and a teacher, each by itself: its accuracy, and its loss by stage and term."""
    arms = students(table)
    shown = chosen(arms, min(limit, APART))
    drawn = [*shown, *[row for row in table if row not in arms][:1]]
    notes = f"Solid: training; dashed: validation. {_band(drawn)}"
    names = _named(drawn)
    measured = [
        curve for row in drawn for split in ("train", "validation") for curve in series(row, (split, "accuracy"))
    ]
    window = _window(measured, 100)
    scale = window or (_shared(measured, 100) if measured else (0.0, 100.0))
    right = tuple(
        _accuracy(f"{name}-accuracy-{i}", row, marks, scale)
        for i, row in enumerate(drawn)
        if any(series(row, (split, "accuracy")) for split in ("train", "validation"))
    )
    lost = tuple(panel for i, row in enumerate(drawn) for panel in _losses(f"{name}-loss-{i}", row, names))
    plates = [
        Plate("Accuracy, %", f"One scale for all. {notes}{_outside(window)}{few(shown, arms)}", right),
        Plate(
            "Loss by stage and term",
            "Each arm minimises an objective of its own: heights are not to be compared between arms. Black: the "
            f"objective; in colour: its terms, before their weights. {notes}{few(shown, arms)}",
            lost,
        ),
    ]
    return [plate for plate in plates if plate.panels]


def _named(arms: Sequence[Row]) -> list[str]:
    """The names of all terms, in the order they are met: a term has the same colour in every arm."""
    return list(dict.fromkeys(term for row in arms for term in terms(row)))


def terms(row: Row, keep: Keep = lambda line: True) -> tuple[str, ...]:
    """The names of an arm's terms, in the order they were met."""
    found: dict[str, None] = {}
    for line in row.entries[0].epochs:
        if keep(line):
            found.update(dict.fromkeys(line["train"].get("terms") or {}))
    return tuple(found)


def _accuracy(name: str, row: Row, marks: Marks, scale: tuple[float, float]) -> Panel:
    def draw(style: Style) -> Figure:
        with style.drawing(SMALL, 1.75) as (figure, axes):
            mark = marks[row.arm]
            for split, dash in (("train", "-"), ("validation", (0, (3, 1.5)))):
                _draw(axes, series(row, (split, "accuracy")), 100, mark.colour(style), dash, split)
            axes.set_ylim(scale)
            _frame(axes, cut(row.arm, TITLE))
            _stages(axes, row, style)
        return figure

    title, told = f"{row.arm}: accuracy by epoch", f"Training and validation; test accuracy {accuracy(row)}."
    return Panel(name, title, told, draw, about=row.arm)


def _losses(name: str, row: Row, names: Sequence[str]) -> list[Panel]:
    """A drawing per stage: their losses are of unlike size."""
    stages = list(dict.fromkeys((line.get("stage_index", 0), line.get("stage")) for line in row.entries[0].epochs))
    panels: list[Panel] = []
    for place, (index, stage) in enumerate(stages):
        about = row.arm if len(stages) == 1 else f"{row.arm} · {stage or place + 1}"

        def keep(line: Json, index: Any = index) -> bool:
            return line.get("stage_index", 0) == index

        panel = _loss(f"{name}-{place}" if len(stages) > 1 else name, row, about, keep, names)
        panels += [] if panel is None else [panel]
    return panels


def _loss(name: str, row: Row, about: str, keep: Keep, names: Sequence[str]) -> Panel | None:
    parts = terms(row, keep)
    moved = len({curve.first for curve in series(row, ("train", "loss"), keep)}) > 1
    total = [(split, _aligned(series(row, (split, "loss"), keep), moved)) for split in ("train", "validation")]
    if not any(curves for _, curves in total):
        return None
    dashes = {"train": "-", "validation": (0, (3, 1.5))}

    def draw(style: Style) -> Figure:
        with style.drawing(SMALL, 1.75) as (figure, axes):
            for split, curves in total:
                label = "objective" if split == "train" and len(parts) > 1 else "_"
                _draw(axes, curves, 1, style.ink, dashes[split], label)
            for term in parts if len(parts) > 1 else ():
                colour = style.colours[names.index(term) % len(style.colours)]
                for split, dash in dashes.items():
                    label = legend(term) if split == "train" else "_"
                    _draw(axes, _aligned(series(row, (split, "terms", term), keep), moved), 1, colour, dash, label)
            _frame(axes, cut(row.arm, TITLE - len(about) + len(row.arm)) + about.removeprefix(row.arm))
            axes.set_xlabel("epoch of the stage" if moved else "epoch", labelpad=1)
            if len(parts) > 1:
                axes.legend(handlelength=1.2, labelspacing=0.2, borderpad=0.1, loc="upper right")
        return figure

    lowest = "; ".join(f"{split} ends at {_end(curves, 1):.4g}" for split, curves in total if curves)
    told = f"Terms: {', '.join(parts)}. Mean over seeds: {lowest}."
    return Panel(name, f"{about}: loss by epoch", told, draw, about=about)


def _aligned(curves: list[Curve], moved: bool) -> list[Curve]:
    """The curves of a stage, from its own first epoch where seeds begin it at unlike ones, after an early stop."""
    return [replace(curve, first=1) for curve in curves] if moved else curves


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch", labelpad=1)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))


def _stages(axes: Axes, row: Row, style: Style) -> None:
    """A dotted line where one stage gives way to the next in every run."""
    first, *others = (_ends(entry.epochs) for entry in row.entries)
    for epoch in first.intersection(*others):
        axes.axvline(epoch + 0.5, color=style.ink, lw=0.7, ls=":")


def _ends(epochs: Sequence[Json]) -> set[int]:
    """The epochs after which a run went on to its next stage."""
    return {i for i, (a, b) in enumerate(pairwise(map(_stage, epochs)), 1) if a != b}


def _stage(line: Json) -> Any:
    return line.get("stage_index", 0)
