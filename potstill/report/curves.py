"""Learning curves: what is the same measure for all arms in one drawing, each arm's objective in others."""

# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from potstill.record import Json
from potstill.report.figures import Marks
from potstill.report.matrix import cut
from potstill.report.plate import COLOURED, Panel, Plate, few
from potstill.report.rows import Row, chosen, students
from potstill.report.series import Curve, Keep, aligned, end, later_range, line, series, terms, whole_range
from potstill.report.size import below, legend
from potstill.report.style import SMALL, WIDE, Style
from potstill.report.words import accuracy

APART = 12
"""How many arms have a drawing of their own at most."""

TITLE = 36
"""How many letters there is room for above a drawing."""


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
        window = later_range([curve for _, curves in found for curve in curves], scale)
        caption = f"{_band(shown)} The measure is the same for every arm.{_outside(window)}{few(shown, arms)}"
        ends = "; ".join(f"{row.arm} ends at {end(curves, scale):.4g}" for row, curves in found if curves)
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
                line(axes, curves, scale, mark.colour(style), mark.dash, legend(row.arm))
            axes.set(xlabel="epoch", ylabel=unit)
            axes.margins(x=0.02)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if window is not None:
                axes.set_ylim(window)
            below(figure, axes, [legend(row.arm) for row, curves in found if curves], left=0.52)
        return figure

    return draw


def _outside(window: tuple[float, float] | None) -> str:
    return "" if window is None else " The first epochs lie outside, so that the later ones can be told apart."


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
    window = later_range(measured, 100)
    scale = window or (whole_range(measured, 100) if measured else (0.0, 100.0))
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


def _accuracy(name: str, row: Row, marks: Marks, scale: tuple[float, float]) -> Panel:
    def draw(style: Style) -> Figure:
        with style.drawing(SMALL, 1.75) as (figure, axes):
            mark = marks[row.arm]
            for split, dash in (("train", "-"), ("validation", (0, (3, 1.5)))):
                line(axes, series(row, (split, "accuracy")), 100, mark.colour(style), dash, split)
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
    total = [(split, aligned(series(row, (split, "loss"), keep), moved)) for split in ("train", "validation")]
    if not any(curves for _, curves in total):
        return None
    dashes = {"train": "-", "validation": (0, (3, 1.5))}

    def draw(style: Style) -> Figure:
        with style.drawing(SMALL, 1.75) as (figure, axes):
            for split, curves in total:
                label = "objective" if split == "train" and len(parts) > 1 else "_"
                line(axes, curves, 1, style.ink, dashes[split], label)
            for term in parts if len(parts) > 1 else ():
                colour = style.colours[names.index(term) % len(style.colours)]
                for split, dash in dashes.items():
                    label = legend(term) if split == "train" else "_"
                    line(axes, aligned(series(row, (split, "terms", term), keep), moved), 1, colour, dash, label)
            _frame(axes, cut(row.arm, TITLE - len(about) + len(row.arm)) + about.removeprefix(row.arm))
            axes.set_xlabel("epoch of the stage" if moved else "epoch", labelpad=1)
            if len(parts) > 1:
                axes.legend(handlelength=1.2, labelspacing=0.2, borderpad=0.1, loc="upper right")
        return figure

    lowest = "; ".join(f"{split} ends at {end(curves, 1):.4g}" for split, curves in total if curves)
    told = f"Terms: {', '.join(parts)}. Mean over seeds: {lowest}."
    return Panel(name, f"{about}: loss by epoch", told, draw, about=about)


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
