"""Learning curves: what is the same measure for all arms in one drawing, each arm's own objective in one of its own."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from potstill.record import Json
from potstill.report import svg
from potstill.report.figures import Panel, Plate, few
from potstill.report.rows import Row, chosen, students
from potstill.report.words import accuracy

TOGETHER = 6
"""How many arms share one drawing at most."""

APART = 12
"""How many arms have a drawing of their own at most."""

Path = tuple[str, ...]
Curves = list[NDArray[np.float64]]


def series(row: Row, path: Path) -> Curves:
    """A measure over the epochs of every run of an arm, in order of seeds; nothing where no run has it."""
    curves = [np.array([_value(line, path) for line in entry.epochs], dtype=np.float64) for entry in row.entries]
    return [curve for curve in curves if curve.size and np.isfinite(curve).any()]


def _value(line: Json, path: Path) -> float:
    value: Any = line
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]
    return float(value) if isinstance(value, int | float) else float("nan")  # pyright: ignore[reportUnknownArgumentType]


def together(name: str, table: Sequence[Row]) -> list[Plate]:
    """Validation accuracy and NLL of the arms: the two measures that are the same for every objective."""
    arms = students(table)
    shown = chosen(arms, TOGETHER)
    measures = (
        ("accuracy", "Validation accuracy", "accuracy, %", 100.0),
        ("nll", "Validation NLL", "NLL, nats", 1.0),
    )
    plates: list[Plate] = []
    for key, heading, unit, scale in measures:
        split = "validation"
        lines = {row.arm: series(row, (split, key)) for row in shown}
        if not any(lines.values()) and key == "accuracy":
            split, heading = "train", "Training accuracy"
            lines = {row.arm: series(row, (split, key)) for row in shown}
        if not any(lines.values()):
            continue
        caption = _band(shown) + " The measure is the same for every arm." + few(shown, arms)
        panel = _overlay(f"{name}-{split}-{key}", heading, unit, scale, lines)
        plates.append(Plate(heading, caption, (panel,), wide=True))
    return plates


def _overlay(name: str, heading: str, unit: str, scale: float, lines: dict[str, Curves]) -> Panel:
    with svg.drawing(3.8, 2.9 + 0.16 * len(lines)) as (figure, axes):
        for number, (arm, curves) in enumerate(lines.items()):
            _draw(axes, curves, scale, svg.COLOURS[number % len(svg.COLOURS)], svg.DASHES[number % 4], arm)
        axes.set(xlabel="epoch", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        foot = (0.47 + 0.16 * len(lines)) / figure.get_figheight()
        axes.set_position((0.47 / 3.8, foot, 1 - 0.55 / 3.8, 1 - foot - 0.03))
        figure.legend(loc="lower left", bbox_to_anchor=(0.47 / 3.8 - 0.025, 0), labelspacing=0.35, handlelength=2.6)
        ends = "; ".join(f"{arm} ends at {_end(curves, scale):.4g}" for arm, curves in lines.items() if curves)
        return Panel(svg.inline(figure, name, f"{heading} by epoch", f"Mean over seeds: {ends}."))


def _end(curves: Curves, scale: float) -> float:
    return float(np.mean([scale * curve[np.isfinite(curve)][-1] for curve in curves]))


def _draw(axes: Axes, curves: Curves, scale: float, colour: str, dash: str, name: str) -> None:
    """Mean line and the band between the lowest and the highest seed, then each longer run by itself."""
    if not curves:
        return
    common = min(len(curve) for curve in curves)
    stack = scale * np.stack([curve[:common] for curve in curves])
    epochs = np.arange(1, common + 1)
    marker = "o" if common == 1 else None
    axes.plot(epochs, stack.mean(axis=0), dash, color=colour, label=name, marker=marker, ms=3)
    if len(curves) > 1:
        axes.fill_between(epochs, stack.min(axis=0), stack.max(axis=0), color=colour, alpha=0.16, lw=0)
    for curve in curves:
        if len(curve) > common:
            later = np.arange(common, len(curve) + 1)
            axes.plot(later, scale * curve[common - 1 :], dash, color=colour, lw=0.7, alpha=0.7)


def _band(arms: Sequence[Row]) -> str:
    if all(row.n == 1 for row in arms):
        return "One run per arm."
    text = "Line: mean over seeds; band: from the lowest to the highest seed."
    unlike = any(len({len(entry.epochs) for entry in row.entries}) > 1 for row in arms)
    return text + (" Where some seeds stopped early, the others go on as thin lines." if unlike else "")


def apart(name: str, table: Sequence[Row], limit: int) -> list[Plate]:
    """At most `limit` arms and a teacher, each by itself: its objective, its accuracy, its terms."""
    arms = students(table)
    shown = chosen(arms, min(limit, APART))
    drawn = [*shown, *[row for row in table if row not in arms][:1]]
    notes = f"Solid: training; dashed: validation. {_band(drawn)}{few(shown, arms)}"
    own = "Each arm minimises an objective of its own: heights are not to be compared between arms. "
    several = [row for row in drawn if len(terms(row)) > 1]
    by_term = tuple(_term_panel(f"{name}-terms-{i}", row) for i, row in enumerate(several))
    plates = [
        Plate("Loss, each arm's own objective", own + notes, _panels(f"{name}-loss", drawn, "loss", 1)),
        Plate("Accuracy, %", notes, _panels(f"{name}-accuracy", drawn, "accuracy", 100)),
        Plate("Loss by term", f"Each term of an arm's objective, as recorded. {notes}", by_term),
    ]
    return [plate for plate in plates if plate.panels]


def _panels(name: str, arms: Sequence[Row], key: str, scale: float) -> tuple[Panel, ...]:
    found = [row for row in arms if series(row, ("train", key)) or series(row, ("validation", key))]
    return tuple(
        _panel(f"{name}-{i}", row, {key: (("train", key), ("validation", key))}, scale) for i, row in enumerate(found)
    )


def terms(row: Row) -> tuple[str, ...]:
    """The names of an arm's terms, over all its stages, in the order they were met."""
    found: dict[str, None] = {}
    for line in row.entries[0].epochs:
        found.update(dict.fromkeys(line["train"].get("terms") or {}))
    return tuple(found)


def _term_panel(name: str, row: Row) -> Panel:
    paths = {term: (("train", "terms", term), ("validation", "terms", term)) for term in terms(row)}
    return _panel(name, row, paths, 1)


def _panel(name: str, row: Row, paths: dict[str, tuple[Path, Path]], scale: float) -> Panel:
    with svg.drawing(2.75, 1.95) as (figure, axes):
        for number, (measure, (train, validation)) in enumerate(paths.items()):
            colour = svg.COLOURS[number % len(svg.COLOURS)]
            _draw(axes, series(row, train), scale, colour, "-", measure)
            _draw(axes, series(row, validation), scale, colour, "--", "_validation")
        axes.set_title(row.arm, loc="left")
        axes.set_xlabel("epoch", labelpad=2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        _stages(axes, row)
        if len(paths) > 1:
            axes.legend(handlelength=1.4, labelspacing=0.25, borderpad=0.1)
        what = " and ".join(paths)
        title = f"{row.arm}: {what} by epoch"
        return Panel(svg.inline(figure, name, title, f"Training and validation; test accuracy {accuracy(row)}."))


def _stages(axes: Axes, row: Row) -> None:
    """A dotted line where one stage gives way to the next."""
    index = [line.get("stage_index", 0) for line in row.entries[0].epochs]
    for epoch in range(1, len(index)):
        if index[epoch] != index[epoch - 1]:
            axes.axvline(epoch + 0.5, color=svg.INK, lw=0.7, ls=":")
