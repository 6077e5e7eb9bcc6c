"""Figures with a line per arm: a dot per seed behind every mean, and behind every difference that is judged."""

# pyright: reportUnknownMemberType=false

import textwrap
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from potstill.report.plate import Mark, Panel, Plate, few
from potstill.report.power import FEWEST
from potstill.report.rows import Row, chosen, fallen, paired, students
from potstill.report.style import WIDE, Style
from potstill.report.verdict import Verdict
from potstill.report.words import accuracy, ruling, undrawn

DOTS = 30
"""How many arms a figure holds at most."""

LETTERS = 24
"""How many letters of a name stand on one line beside its dots."""

Marks = Mapping[str, Mark]


@dataclass(frozen=True)
class Difference:
    """What an arm has more than another, seed by seed, and the verdict on it."""

    name: str
    mark: Mark
    values: tuple[float, ...]
    verdict: Verdict


@contextmanager
def lined(
    style: Style, names: Sequence[str], unit: str, right: float = 0.1
) -> Generator[tuple[Figure, Axes], None, None]:
    """A drawing with a line per name, the first on top at 0, the next at -1; so many inches are left to the right."""
    texts = ["\n".join(textwrap.wrap(text, LETTERS, max_lines=3, placeholder=" …")) or text for text in names]
    high = max(text.count("\n") for text in texts)
    height = 0.5 + (0.2, 0.3, 0.4)[high] * len(texts)
    with style.drawing(WIDE, height) as (figure, axes):
        axes.set(ylim=(0.4 - len(texts), 0.6), xlabel=unit)
        axes.set_yticks(range(0, -len(texts), -1), texts)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        left = 0.12 + 0.053 * max(len(line) for text in texts for line in text.split("\n"))
        axes.set_position((left / WIDE, 0.41 / height, 1 - (left + right) / WIDE, 1 - 0.46 / height))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if right < 0.5 else 4, steps=[1, 2, 5, 10]))
        yield figure, axes


def seeded(axes: Axes, values: Sequence[float], y: float, colour: str, style: Style) -> None:
    """A dot per seed, and an upright line at their mean."""
    mean = sum(values) / len(values)
    axes.plot(values, [y] * len(values), "o", ms=4.6, color=colour, alpha=0.55, mew=0, clip_on=False)
    axes.plot([mean, mean], [y - 0.26, y + 0.26], color=style.ink, lw=1.4, solid_capstyle="butt", clip_on=False)


def dots(name: str, table: Sequence[Row], marks: Marks) -> Plate:
    """Test accuracy of every run: a dot per seed, a line at the mean, a diamond at the published value.

    Of arms whose training failed an arrow tells the mean, so that the others can be told apart.
    """
    arms = students(table)
    shown = chosen(arms, DOTS)
    lost = fallen(shown)

    def draw(style: Style) -> Figure:
        with lined(style, [row.arm for row in shown], "test accuracy, %") as (figure, axes):
            for place, row in enumerate(shown):
                if row in lost:
                    told = f"← {100 * row.test_accuracy.mean:.2f}"
                    axes.text(0, -place, told, transform=axes.get_yaxis_transform(), va="center", ha="left")
                    continue
                values = [100 * value for value in row.test_accuracy.values]
                seeded(axes, values, -place, marks[row.arm].colour(style), style)
                if row.published is not None:
                    _diamond(axes, 100 * row.published, -place, style)
            axes.margins(x=0.05)
        return figure

    described = "; ".join(f"{row.arm} {accuracy(row)}" for row in shown)
    panel = Panel(name, "Test accuracy of every run, by arm", f"{described}.", draw)
    caption = _dots_caption(table, arms, shown)
    caption += " An arrow is the mean of an arm that lies further down." if lost else ""
    return Plate("Every seed", caption, (panel,), wide=True)


def _diamond(axes: Axes, x: float, y: float, style: Style) -> None:
    axes.plot([x], [y], "D", ms=5, mfc="none", mec=style.ink, mew=0.9, clip_on=False)


def _dots_caption(table: Sequence[Row], arms: Sequence[Row], shown: Sequence[Row]) -> str:
    text = "A dot is one run, the upright line the mean of its arm."
    if any(row.published is not None for row in shown):
        text += " A diamond is the published value."
    text += few(shown, arms)
    return text + undrawn([row for row in table if row not in arms and row.role != "control"])


def verdicts(name: str, table: Sequence[Row], marks: Marks) -> Plate | None:
    """What each arm has more than the first, where there are verdicts."""
    arms = students(table)
    judged = [row for row in chosen(arms, DOTS) if row.verdict is not None and row.verdict.n >= FEWEST]
    if not judged:
        return None
    differences = [
        Difference(row.arm, marks[row.arm], found.values, row.verdict)
        for row in judged
        if row.verdict is not None and (found := paired(row, arms[0])) is not None
    ]
    left_out = few([arms[0], *judged], arms) if len(arms) > DOTS else ""
    return against(name, f"Difference to {arms[0].arm}", differences, left_out)


def against(name: str, heading: str, differences: Sequence[Difference], note: str = "") -> Plate:
    """Differences on lines of their own: a dot per seed, mean and interval, and the verdict's word."""
    margin = 100 * differences[0].verdict.margin

    def draw(style: Style) -> Figure:
        with lined(style, [each.name for each in differences], "points", right=0.85) as (figure, axes):
            if margin:
                axes.axvspan(-margin, margin, color=style.faint, alpha=0.45, lw=0)
            axes.axvline(0, color=style.soft, lw=0.7)
            for place, each in enumerate(differences):
                _difference(axes, each, -place, style)
            axes.margins(x=0.05)
        return figure

    caption = (
        "Differences in test accuracy over the seeds of both arms, in points: a dot per seed, the mean, and the "
        "interval that the verdict is read from."
    )
    caption += " The band is the margin." if margin else ""
    told = "; ".join(f"{each.name}: {ruling(each.verdict, each.verdict.n)}" for each in differences)
    return Plate(heading, caption + note, (Panel(name, heading, f"{told}.", draw),), wide=True)


def _difference(axes: Axes, each: Difference, y: float, style: Style) -> None:
    values = [100 * value for value in each.values]
    if each.verdict.n >= FEWEST:
        ends = [100 * each.verdict.low, 100 * each.verdict.high]
        axes.plot(ends, [y, y], color=each.mark.colour(style), lw=1.3, solid_capstyle="butt")
    seeded(axes, values, y, each.mark.colour(style), style)
    axes.text(1.03, y, each.verdict.word, transform=axes.get_yaxis_transform(), va="center", ha="left")
