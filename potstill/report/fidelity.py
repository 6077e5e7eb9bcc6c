"""Fidelity to the teacher against accuracy: whether who imitates better is also right more often."""

# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from potstill.report import svg
from potstill.report.figures import Panel, Plate
from potstill.report.outcome import Outcome
from potstill.report.rows import Row, chosen, students

NAMED = 6
"""How many arms have a colour of their own; the others are drawn faintly."""

Measure = Callable[[Outcome], float | None]


def scatter(name: str, table: Sequence[Row]) -> list[Plate]:
    """Agreement with the teacher, and divergence from it, against test accuracy: a dot per run."""
    arms = [row for row in students(table) if row.over(lambda o: o.agreement) and row.over(lambda o: o.kl_to_teacher)]
    if len({(entry.outcome.agreement, entry.outcome.test_accuracy) for row in arms for entry in row.entries}) < 2:
        return []
    measures: tuple[tuple[str, str, Measure, float], ...] = (
        ("agreement", "agreement with the teacher, %", lambda o: o.agreement, 100.0),
        ("kl", "KL(teacher ‖ student), nats", lambda o: o.kl_to_teacher, 1.0),
    )
    return [
        Plate(
            f"Accuracy and {'agreement' if key == 'agreement' else 'divergence'}",
            "A dot is one run, a ring the mean of its arm." + _correlated(arms, measure),
            (Panel(_draw(f"{name}-fidelity-{key}", arms, unit, measure, scale)),),
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


def _draw(name: str, arms: Sequence[Row], unit: str, measure: Measure, scale: float) -> str:
    named = chosen(arms, NAMED)
    height = 2.9 + 0.16 * len(named)
    with svg.drawing(3.8, height) as (figure, axes):
        for row in arms:
            place = named.index(row) if row in named else None
            colour = svg.FAINT if place is None else svg.COLOURS[place]
            found = row.over(measure)
            assert found is not None
            x, y = [scale * value for value in found.values], [100 * value for value in row.test_accuracy.values]
            layer = 2 if place is None else 3
            axes.plot(x, y, "o", ms=4, color=colour, alpha=0.6, mew=0, zorder=layer)
            mean = (scale * found.mean, 100 * row.test_accuracy.mean)
            label = None if place is None else row.arm
            marker = "osD^vP"[0 if place is None else place]
            axes.plot(*mean, marker, ms=8, mfc="none", mec=colour, mew=1.4, ls="none", label=label, zorder=layer + 1)
        axes.set(xlabel=unit, ylabel="test accuracy, %")
        axes.margins(0.08)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        foot = (0.47 + 0.16 * len(named)) / height
        axes.set_position((0.52 / 3.8, foot, 1 - 0.6 / 3.8, 1 - foot - 0.03))
        figure.legend(loc="lower left", bbox_to_anchor=(0.52 / 3.8 - 0.025, 0), labelspacing=0.35, handlelength=1.2)
        told = "; ".join(
            f"{row.arm} {scale * found.mean:.4g}, accuracy {100 * row.test_accuracy.mean:.2f} %"
            for row in named
            if (found := row.over(measure)) is not None
        )
        return svg.inline(figure, name, f"Test accuracy against {unit}", f"Means of arms: {told}.")
