"""Fidelity to the teacher against accuracy: whether who imitates better is also right more often."""

# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from potstill.report.figures import Marks
from potstill.report.outcome import Outcome
from potstill.report.plate import COLOURED, Mark, Panel, Plate
from potstill.report.rows import Row, chosen, fallen, students
from potstill.report.size import below, legend
from potstill.report.style import WIDE, Style
from potstill.report.words import undrawn

Measure = Callable[[Outcome], float | None]


def scatter(name: str, table: Sequence[Row], marks: Marks) -> list[Plate]:
    """Agreement with the teacher, and divergence from it, against test accuracy: a dot per run.

    Arms whose training failed are left out: they alone would be what the figure and its correlation say.
    """
    known = [row for row in students(table) if row.over(lambda o: o.agreement) and row.over(lambda o: o.kl_to_teacher)]
    lost = fallen(known)
    arms = [row for row in known if row not in lost]
    if len({(entry.outcome.agreement, entry.outcome.test_accuracy) for row in arms for entry in row.entries}) < 2:
        return []
    measures: tuple[tuple[str, str, Measure, float], ...] = (
        ("agreement", "agreement with the teacher, %", lambda o: o.agreement, 100.0),
        ("kl", "KL(teacher ‖ student), nats", lambda o: o.kl_to_teacher, 1.0),
    )
    return [
        Plate(
            f"Accuracy and {'agreement' if key == 'agreement' else 'divergence'}",
            "A dot is one run, a ring the mean of its arm." + undrawn(lost) + _correlated(arms, measure),
            (_panel(f"{name}-fidelity-{key}", arms, unit, measure, scale, marks),),
            wide=True,
        )
        for key, unit, measure, scale in measures
    ]


def correlation(arms: Sequence[Row], measure: Measure) -> float | None:
    """Pearson's r between a measure and test accuracy over means of arms; None for fewer than three, or no spread."""
    means = [found.mean for row in arms if (found := row.over(measure)) is not None]
    accuracies = [row.test_accuracy.mean for row in arms]
    if len(arms) < 3 or len(set(means)) < 2 or len(set(accuracies)) < 2:
        return None
    return float(np.corrcoef(means, accuracies)[0, 1])


def _correlated(arms: Sequence[Row], measure: Measure) -> str:
    r = correlation(arms, measure)
    return (
        ""
        if r is None
        else f" Over the means of {len(arms)} arms, Pearson\N{RIGHT SINGLE QUOTATION MARK}s r is {r:+.2f}.".replace(
            "-", "−"
        )
    )


def _panel(name: str, arms: Sequence[Row], unit: str, measure: Measure, scale: float, marks: Marks) -> Panel:
    named = chosen(arms, COLOURED)

    def draw(style: Style) -> Figure:
        with style.drawing(WIDE, 2.5) as (figure, axes):
            for row in arms:
                _arm(axes, row, measure, scale, marks[row.arm], style, named=row in named)
            axes.set(xlabel=unit, ylabel="test accuracy, %")
            axes.margins(0.08)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
            below(figure, axes, [legend(row.arm) for row in named])
        return figure

    told = "; ".join(
        f"{row.arm} {scale * found.mean:.4g}, accuracy {100 * row.test_accuracy.mean:.2f} %"
        for row in named
        if (found := row.over(measure)) is not None
    )
    return Panel(name, f"Test accuracy against {unit}", f"Means of arms: {told}.", draw)


def _arm(axes: Axes, row: Row, measure: Measure, scale: float, mark: Mark, style: Style, *, named: bool) -> None:
    found = row.over(measure)
    assert found is not None
    colour, layer = mark.colour(style), 3 if named else 2
    x, y = [scale * value for value in found.values], [100 * value for value in row.test_accuracy.values]
    axes.plot(x, y, "o", ms=3.6, color=colour, alpha=0.55, mew=0, zorder=layer)
    mean = (scale * found.mean, 100 * row.test_accuracy.mean)
    label = legend(row.arm) if named else "_"
    axes.plot(*mean, mark.marker, ms=6.5, mfc="none", mec=colour, mew=1.2, ls="none", label=label, zorder=layer + 1)
