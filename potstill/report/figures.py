"""Figures over arms: a dot per seed behind every mean, and a map where two settings vary."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from potstill.report import svg
from potstill.report.rows import Grid, Row, best, chosen, students
from potstill.report.tables import grid_text, label
from potstill.report.words import accuracy

DOTS = 24
"""How many arms the figure of dots shows at most."""


@dataclass(frozen=True)
class Panel:
    """One drawing, as SVG."""

    svg: str


@dataclass(frozen=True)
class Plate:
    """Drawings under one heading and one caption; `wide` ones stand two to a line, others as many as fit."""

    heading: str
    caption: str
    panels: tuple[Panel, ...]
    wide: bool = False


def dots(name: str, table: Sequence[Row]) -> Plate:
    """Test accuracy of every run: a dot per seed, a line at the mean, a diamond at the published value."""
    arms = students(table)
    shown = chosen(arms, DOTS)
    longest = max(len(row.arm) for row in shown)
    beside = longest <= 18
    height = 0.6 + (0.25 if beside else 0.36) * len(shown)
    with svg.drawing(3.8, height) as (figure, axes):
        for place, row in enumerate(shown):
            _dots_of(axes, row, -place, named=not beside)
        axes.set(ylim=(0.4 - len(shown), 0.6 if beside else 0.85), yticks=[], xlabel="test accuracy, %")
        if beside:
            axes.set_yticks(range(0, -len(shown), -1), [row.arm for row in shown])
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        left = 0.02 + 0.021 * longest if beside else 0.03
        axes.set_position((left, 0.42 / height, 0.97 - left, 1 - 0.47 / height))
        described = "; ".join(f"{row.arm} {accuracy(row)}" for row in shown)
        drawn = svg.inline(figure, name, "Test accuracy of every run, by arm", described)
    return Plate("Every seed", _dots_caption(table, arms, shown), (Panel(drawn),), wide=True)


def _dots_of(axes: Axes, row: Row, y: int, *, named: bool) -> None:
    """One arm's line of dots; a long name stands above it instead of in the margin."""
    mean = 100 * row.test_accuracy.mean
    values = [100 * value for value in row.test_accuracy.values]
    axes.plot(values, [y] * row.n, "o", ms=5, color=svg.COLOURS[0], alpha=0.55, mew=0, clip_on=False)
    axes.plot([mean, mean], [y - 0.2, y + 0.2], color=svg.INK, lw=1.6, solid_capstyle="butt")
    if row.published is not None:
        x, edge = 100 * row.published, svg.COLOURS[1]
        axes.plot([x], [y], "D", ms=6, mfc="none", mec=edge, mew=1.2, clip_on=False)
    if named:
        axes.text(0, y + 0.26, row.arm, transform=axes.get_yaxis_transform(), va="bottom", ha="left")


def _dots_caption(table: Sequence[Row], arms: Sequence[Row], shown: Sequence[Row]) -> str:
    text = "A dot is one run, the upright line the mean of its arm."
    if any(row.published is not None for row in shown):
        text += " A diamond is the published value."
    text += few(shown, arms)
    teachers = [f"{row.arm} {accuracy(row)}" for row in table if row not in arms]
    return text + (f" Not drawn: {'; '.join(teachers)}." if teachers else "")


def few(shown: Sequence[Row], arms: Sequence[Row]) -> str:
    """What a caption says where not every arm is drawn."""
    if len(shown) == len(arms):
        return ""
    others = "the best other are" if len(shown) == 2 else f"the {len(shown) - 1} best others are"
    return f" Of {len(arms)} arms the first and {others} shown."


def heat(name: str, found: Grid) -> Plate:
    """Mean test accuracy over two settings."""
    down, across = found.values
    means = {pair: 100 * row.test_accuracy.mean for pair, row in found.cells.items()}
    low, high = min(means.values()), max(means.values())
    with svg.drawing(3.8, 0.75 + 0.34 * len(down)) as (figure, axes):
        for y, first in enumerate(down):
            for x, second in enumerate(across):
                mean = means.get((first, second))
                if mean is None:
                    continue
                # Strength instead of hue: it reads on light and dark paper, in print, and without colour vision.
                strength = 0.06 + 0.54 * ((mean - low) / (high - low) if high > low else 0)
                axes.fill_between([x + 0.02, x + 0.98], y + 0.03, y + 0.97, color=svg.COLOURS[0], alpha=strength, lw=0)
                axes.text(x + 0.5, y + 0.52, f"{mean:.2f}", ha="center", va="center", fontsize=7.5)
        axes.set(xlim=(0, len(across)), ylim=(len(down), 0), ylabel=found.names[0], xlabel=found.names[1])
        axes.set_xticks([x + 0.5 for x in range(len(across))], [label(value) for value in across])
        axes.set_yticks([y + 0.5 for y in range(len(down))], [label(value) for value in down])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        top = best(list(found.cells.values()))
        described = f"The highest mean is {accuracy(top)} ({top.arm}); every cell stands in the table below."
        drawn = svg.inline(figure, name, f"Mean test accuracy over {found.names[0]} and {found.names[1]}", described)
    caption = f"Mean test accuracy, %: the stronger the tint, the higher, from {low:.2f} to {high:.2f}. "
    return Plate(
        f"{found.names[0]} and {found.names[1]}", caption + described.split(";")[0] + ".", (Panel(drawn),), wide=True
    )


def grid_lines(found: Grid) -> list[tuple[str, list[str]]]:
    """The map as a table: a head and its cells per line."""
    down, across = found.values
    return [(label(first), [grid_text(found, first, second) for second in across]) for first in down]
