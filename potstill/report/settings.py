"""Figures of sweeps over numbers: a response curve where one setting varies, a map where two do."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from potstill.report.interval import interval
from potstill.report.plate import Panel, Plate
from potstill.report.rows import Grid, Row, best, students
from potstill.report.style import WIDE, Style, logarithmic
from potstill.report.tables import label, labels
from potstill.report.words import accuracy

DECADE = 8
"""From this ratio of the greatest to the least value on, an axis of settings is logarithmic."""


@dataclass(frozen=True)
class Response:
    """Arms along the one setting in which they differ, in its order."""

    setting: str
    values: tuple[Any, ...]
    arms: tuple[Row, ...]

    @property
    def places(self) -> tuple[float, ...]:
        """Where they stand: at their values where all are numbers, else side by side."""
        numbers = all(_number(value) for value in self.values)
        return tuple(map(float, self.values if numbers else range(len(self.values))))

    @property
    def logarithmic(self) -> bool:
        """Whether the values are numbers of unlike size."""
        numbers = all(_number(value) for value in self.values)
        return numbers and min(self.values) > 0 and max(self.values) >= DECADE * min(self.values)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def response(table: Sequence[Row]) -> Response | None:
    """The arms with settings, where exactly one setting varies, with another value in each of three arms or more."""
    arms = [row for row in students(table) if row.settings]
    varied = {
        name: values
        for name in dict.fromkeys(name for row in arms for name in row.settings)
        if len(values := list(dict.fromkeys(row.settings[name] for row in arms if name in row.settings))) > 1
    }
    if len(varied) != 1:
        return None
    ((name, values),) = varied.items()
    placed = [row for row in arms if name in row.settings]
    if len(values) != len(placed) or len(placed) < 3:
        return None
    if all(_number(value) for value in values):
        placed.sort(key=lambda row: row.settings[name])
    return Response(name, tuple(row.settings[name] for row in placed), tuple(placed))


def curve(name: str, found: Response, table: Sequence[Row]) -> Plate:
    """Test accuracy along one setting: a dot per seed, the mean, and its interval."""
    means = [100 * row.test_accuracy.mean for row in found.arms]
    flat = [row for row in students(table) if not row.settings][:1]

    def draw(style: Style) -> Figure:
        with style.drawing(WIDE, 2.5) as (figure, axes):
            for row in flat:
                axes.axhline(100 * row.test_accuracy.mean, color=style.soft, lw=0.9, ls=(0, (4, 2)))
                axes.annotate(
                    row.arm, (1, 100 * row.test_accuracy.mean), (0, 2), xycoords=axes.get_yaxis_transform(),
                    textcoords="offset points", ha="right", va="bottom", color=style.soft,
                )  # fmt: skip
            if found.logarithmic:
                logarithmic(axes, min(found.places), max(found.places))
            axes.plot(found.places, means, color=style.colours[0], marker="s", ms=3.2)
            for x, row in zip(found.places, found.arms, strict=True):
                _seeds(axes, x, row, style)
            _ticks(axes, found)
            axes.set(xlabel=found.setting, ylabel="test accuracy, %")
            axes.margins(0.06, 0.08)
        return figure

    top = best(found.arms)
    highest = f"The highest mean is {accuracy(top)}, at {found.setting} {label(top.settings[found.setting])}."
    bars = " Bars: 95 % intervals of the mean (t)." if any(row.n > 1 for row in found.arms) else ""
    line = f" Dashed: {flat[0].arm}." if flat else ""
    caption = f"A dot is one run; squares are means.{bars}{line} {highest}"
    told = "; ".join(f"{label(v)}: {accuracy(row)}" for v, row in zip(found.values, found.arms, strict=True))
    panel = Panel(name, f"Test accuracy over {found.setting}", f"{told}.", draw, about=found.setting)
    return Plate(f"Accuracy over {found.setting}", caption, (panel,), wide=True)


def _seeds(axes: Axes, x: float, row: Row, style: Style) -> None:
    values = [100 * value for value in row.test_accuracy.values]
    axes.plot([x] * row.n, values, "o", ms=3.8, color=style.colours[0], alpha=0.45, mew=0)
    if (ends := interval(values)) is not None:
        axes.plot([x, x], ends, color=style.colours[0], lw=0.9, solid_capstyle="butt")


def _ticks(axes: Axes, found: Response) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if len(found.places) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(list(found.places)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(found.places, labels(found.values))


def heat(name: str, found: Grid) -> Plate:
    """Mean test accuracy over two settings."""
    means = {pair: 100 * row.test_accuracy.mean for pair, row in found.cells.items()}
    low, high = min(means.values()), max(means.values())
    top = best(list(found.cells.values()))
    highest = f"The highest mean is {accuracy(top)} ({top.arm})"
    first, second = found.names

    def draw(style: Style) -> Figure:
        return _map(style, found, means)

    title = f"Mean test accuracy over {first} and {second}"
    told = ". ".join(
        f"{first} {label(down)}: "
        + ", ".join(
            f"{label(across)} {means[down, across]:.2f}" for across in found.values[1] if (down, across) in means
        )
        for down in found.values[0]
    )
    panel = Panel(name, title, f"{highest}. Over {second}, in %. {told}.", draw, about=f"{first} {second}")
    caption = f"Mean test accuracy, %: the stronger the tint, the higher, from {low:.2f} to {high:.2f}. {highest}."
    return Plate(f"Accuracy over {first} and {second}", caption, (panel,), wide=True)


def _map(style: Style, found: Grid, means: dict[tuple[Any, Any], float]) -> Figure:
    down, across = found.values
    low, high = min(means.values()), max(means.values())
    with style.drawing(WIDE, 0.5 + 0.32 * len(down)) as (figure, axes):
        for y, first in enumerate(down):
            for x, second in enumerate(across):
                mean = means.get((first, second))
                if mean is None:
                    continue
                # Strength instead of hue: it reads on light and dark paper, in print, and without colour vision.
                strength = 0.05 + 0.55 * ((mean - low) / (high - low) if high > low else 0)
                box = ([x + 0.02, x + 0.98], y + 0.03, y + 0.97)
                axes.fill_between(*box, color=style.colours[0], alpha=strength, lw=0)
                if mean == high:
                    axes.fill_between(*box, facecolor="none", edgecolor=style.ink, lw=1.1)
                axes.text(x + 0.5, y + 0.52, f"{mean:.2f}", ha="center", va="center")
        axes.set(xlim=(0, len(across)), ylim=(len(down), 0), ylabel=found.names[0], xlabel=found.names[1])
        axes.set_xticks([x + 0.5 for x in range(len(across))], labels(across))
        axes.set_yticks([y + 0.5 for y in range(len(down))], labels(down))
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        height = figure.get_figheight()
        axes.set_position((0.47 / WIDE, 0.43 / height, 1 - 0.52 / WIDE, 1 - 0.45 / height))
    return figure
