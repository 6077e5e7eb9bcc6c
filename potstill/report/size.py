"""Accuracy against size: what each network costs, and those that none beats at their size."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from potstill.report.figures import Marks
from potstill.report.matrix import cut
from potstill.report.plate import COLOURED, Panel, Plate
from potstill.report.rows import Row, chosen, fallen, students
from potstill.report.style import WIDE, Style, logarithmic
from potstill.report.words import accuracy, undrawn

SHORT = 18
"""Up to how many letters names stand in two columns."""

LETTERS = 40
"""How many letters of a name there is room for below a figure."""

LABELS = 5
"""Up to how many sizes are themselves the axis' labels."""

CROWD = 12
"""Up to how many students of one size are drawn beside their teacher's."""


def front(table: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (size, accuracy) those that no other beats: as small and more accurate, or smaller and as accurate."""
    kept: list[tuple[float, float]] = []
    for size, value in sorted(table, key=lambda point: (point[0], -point[1])):
        if not kept or value > kept[-1][1]:
            kept.append((size, value))
    return kept


def sizes(table: Sequence[Row]) -> tuple[str, dict[str, float]] | None:
    """What tells the arms' sizes apart: parameters at inference, or mult-adds where those are all equal."""
    parameters = {row.arm: float(row.first.parameters) for row in table}
    counted = {row.arm: row.first.mult_adds for row in table if row.first.mult_adds}
    arms = students(table)
    for unit, found in (("parameters", parameters), ("mult-adds", counted)):
        own = {found.get(row.arm) for row in arms}
        if len(found) < len(table) or len(set(found.values())) < 2 or min(found.values()) <= 0:
            continue
        if len(own) > 1 or len(arms) <= CROWD:
            return unit, {arm: float(value) for arm, value in found.items()}
    return None


def pareto(name: str, table: Sequence[Row], marks: Marks) -> Plate | None:
    """Test accuracy against size, teachers among it; None where all are of one size.

    Arms whose training failed are left out, so that the others can be told apart.
    """
    if (measured := sizes(table)) is None:
        return None
    unit, size = measured
    lost = fallen(students(table))
    table = [row for row in table if row not in lost and row.role != "control"]
    edge = front([(size[row.arm], 100 * row.test_accuracy.mean) for row in table])
    teachers = [row for row in table if row not in students(table)]
    named = [*chosen(students(table), COLOURED), *teachers[:2]]

    def draw(style: Style) -> Figure:
        with style.drawing(WIDE, 2.5) as (figure, axes):
            axes.step(*zip(*edge, strict=True), where="post", color=style.soft, lw=0.9, zorder=1)
            for row in table:
                _point(axes, row, size[row.arm], marks, style, taught=row in teachers, named=row in named)
            _axis(axes, list(size.values()))
            axes.set(xlabel=f"{unit} at inference", ylabel="test accuracy, %")
            below(figure, axes, [legend(row.arm) for row in named])
        return figure

    told = "; ".join(f"{row.arm} {short(size[row.arm])}: {accuracy(row)}" for row in table)
    caption = (
        f"A dot is one run, a ring the mean of its arm, a star a teacher; the axis of {unit} is logarithmic. The line "
        "joins those that nothing of their size or smaller beats."
    ) + undrawn(lost)
    panel = Panel(name, f"Test accuracy against {unit}", f"{told}.", draw)
    return Plate("Accuracy and size", caption, (panel,), wide=True)


def _point(axes: Axes, row: Row, x: float, marks: Marks, style: Style, *, taught: bool, named: bool) -> None:
    colour = style.ink if taught else marks[row.arm].colour(style)
    values = [100 * value for value in row.test_accuracy.values]
    axes.plot([x] * row.n, values, "o", ms=3.6, color=colour, alpha=0.5, mew=0, zorder=2)
    marker = "*" if taught else marks[row.arm].marker
    ring = axes.plot([x], [100 * row.test_accuracy.mean], marker, ms=8 if taught else 6.5, zorder=3)[0]
    ring.set(mfc="none", mec=colour, mew=1.2, ls="none", label=legend(row.arm) if named else "_")


def _axis(axes: Axes, found: Sequence[float]) -> None:
    logarithmic(axes, min(found), max(found))
    wide = max(found) / min(found)
    axes.set_xlim(min(found) / wide**0.08 / 1.05, max(found) * wide**0.08 * 1.05)
    distinct = sorted(set(found))
    apart = len(distinct) <= LABELS and all(b > wide**0.12 * a for a, b in pairwise(distinct))
    if apart:
        axes.xaxis.set_major_locator(FixedLocator(distinct))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.margins(y=0.08)


def _tick(value: float, _: int | None) -> str:
    return short(value)


def short(value: float) -> str:
    """A count as an axis has room for it: 13 k, 1.2 M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}"


def legend(name: str) -> str:
    """A name in a legend, in which one that begins with an underscore would be left out; longer ones are cut."""
    return cut(f"\N{ZERO WIDTH SPACE}{name}" if name.startswith("_") else name, LETTERS)


def below(figure: Figure, axes: Axes, names: Sequence[str], left: float = 0.52) -> Legend:
    """Names of the marks under the axes, so that none covers what is drawn; the figure grows by their lines."""
    columns = 2 if max(map(len, names), default=0) <= SHORT and len(names) > 2 else 1
    space = 0.15 * -(-len(names) // columns)
    height = figure.get_figheight() + space
    figure.set_figheight(height)
    foot = (0.42 + space) / height
    axes.set_position((left / WIDE, foot, 1 - (left + 0.08) / WIDE, 1 - foot - 0.05 / height))
    return figure.legend(
        loc="lower left",
        bbox_to_anchor=((left - 0.08) / WIDE, 0.01 / height),
        ncols=columns,
        labelspacing=0.35,
        columnspacing=2,
        borderpad=0,
        handlelength=2.6,
    )
