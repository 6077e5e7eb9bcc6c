"""Which classes are taken for which: confusion matrices, their differences, and the accuracy of every class."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from potstill.report.cases import paired
from potstill.report.matrix import LARGEST, WRITTEN, Cells, cut, drawn
from potstill.report.plate import Panel, Plate
from potstill.report.rows import Spread, spread
from potstill.report.sheet import Sheet
from potstill.report.study import Arm, Study
from potstill.report.style import SMALL, Style
from potstill.report.tables import Cell
from potstill.report.words import bare, signed

PAIRS = 12
"""How many confused pairs are listed."""

CLASSES = 16
"""How many classes a drawing of deltas holds; of more, the best and the worst half of that."""

Numbers = NDArray[np.float64]
Pair = tuple[int, int]


def matrices(name: str, study: Study, names: Sequence[str]) -> list[Plate]:
    """Every arm's confusion matrix, the teacher's first, and what differs from the reference's."""
    if study.classes > LARGEST:
        return []
    shown = [*([study.teacher] if study.teacher else []), *study.arms]
    errors = {arm.name: _errors(arm.confusion) for arm in shown}
    top = max(float(table.max()) for table in errors.values()) or 1.0
    own = tuple(_own(f"{name}-confusion-{i}", arm, names, top) for i, arm in enumerate(shown))
    others = [arm for arm in shown if arm is not study.reference]
    changes = {arm.name: arm.confusion - study.reference.confusion for arm in others}
    widest = max((float(np.abs(table).max()) for table in changes.values()), default=0.0) or 1.0
    against = tuple(
        _change(f"{name}-change-{i}", arm, study.reference, names, changes[arm.name], widest)
        for i, arm in enumerate(others)
    )
    cells = "In a cell: percent; on the diagonal, right answers." if study.classes <= WRITTEN else "A pixel per pair."
    plates = [
        Plate(
            f"Differences to {study.reference.name}",
            f"Share of the test images of a class that is called another, minus the same for {study.reference.name}; "
            "means over seeds. Blue is better: more right answers on the diagonal, fewer confusions elsewhere. Orange "
            f"is worse. The strongest tint is {100 * widest:.1f} points. {cells.replace('percent', 'points')}",
            against,
        ),
        Plate(
            "Confusions",
            "Share of the test images of each class (row) that is called each other class (column); means over seeds. "
            f"The strongest tint is {100 * top:.1f} %. {cells}",
            own,
        ),
    ]
    return [plate for plate in plates if plate.panels]


def _errors(confusion: Numbers) -> Numbers:
    return confusion * (1 - np.eye(len(confusion)))


def _own(name: str, arm: Arm, names: Sequence[str], top: float) -> Panel:
    table = arm.confusion
    texts = [[_percent(value) for value in line] for line in table] if len(table) <= WRITTEN else []
    cells = Cells(-_errors(table) / top, texts, names, names, ("label", "answer"))
    worst = "; ".join(f"{names[i]} called {names[j]} {100 * table[i, j]:.1f} %" for i, j in pairs(table, 5))
    return drawn(name, arm.name, cells, f"Confusions of {arm.name}", f"Most often: {worst}." if worst else "None.")


def _change(name: str, arm: Arm, reference: Arm, names: Sequence[str], change: Numbers, widest: float) -> Panel:
    better = change * (2 * np.eye(len(change)) - 1)
    texts = [[_points(value) for value in line] for line in change] if len(change) <= WRITTEN else []
    cells = Cells(better / widest, texts, names, names, ("label", "answer"))
    places = np.argsort(-np.abs(change), axis=None, kind="stable")[:5]
    found = [(int(place) // len(change), int(place) % len(change)) for place in places]
    largest = "; ".join(
        f"{names[i]} called {names[j]} {signed(100 * change[i, j], 1)} points" for i, j in found if change[i, j]
    )
    title = f"Confusions of {arm.name} minus those of {reference.name}"
    return drawn(name, arm.name, cells, title, f"Largest: {largest}." if largest else "There is none.")


def _percent(share: float) -> str:
    return "" if share == 0 else "100" if share >= 0.9995 else f"{100 * share:.1f}".removeprefix("0")


def _points(change: float) -> str:
    text = signed(100 * change, 0 if abs(change) >= 0.0995 else 1)
    return "" if text[1:] == "0.0" else text[0] + text[1:].removeprefix("0")


def pairs(confusion: Numbers, count: int) -> list[Pair]:
    """The pairs of classes that are confused most, label and answer; of equal ones the first."""
    errors = _errors(confusion)
    order = np.argsort(-np.round(errors, 12), axis=None, kind="stable")[:count]
    found = [(int(place) // len(errors), int(place) % len(errors)) for place in order]
    return [pair for pair in found if errors[pair] > 0]


def confused(study: Study, names: Sequence[str]) -> Sheet | None:
    """The pairs that the reference confuses most, and how often every arm does."""
    found = pairs(study.reference.confusion, PAIRS)
    if not found:
        return None
    shown = [*([study.teacher] if study.teacher else []), *study.arms]
    lines = [
        (f"{names[i]} → {names[j]}", tuple(_cell(spread([t.confusion[i, j] for t in arm.answers])) for arm in shown))
        for i, j in found
    ]
    caption = (
        f"Share of the test images of a class that is called another, %: mean ± sample standard deviation over seeds; "
        f"the {len(lines)} pairs that {study.reference.name} confuses most."
    )
    return Sheet("label → answer", tuple(arm.name for arm in shown), tuple(lines), caption)


def deltas(arm: Arm, reference: Arm) -> list[Spread] | None:
    """What an arm's accuracy on each class has more than the reference's, seed by seed over the seeds of both."""
    ours, theirs = paired(arm, reference)
    if not ours:
        return None
    changes = np.stack([a.confusion.diagonal() - b.confusion.diagonal() for a, b in zip(ours, theirs, strict=True)])
    return [spread([float(value) for value in column]) for column in changes.T]


def by_class(study: Study, names: Sequence[str]) -> Sheet | None:
    """Accuracy of the reference on every class, and what each other arm has more; hardest class first."""
    found = [(arm, change) for arm in study.others if (change := deltas(arm, study.reference)) is not None]
    if not found:
        return None
    base = [[float(each.confusion[k, k]) for each in study.reference.answers] for k in range(study.classes)]
    order = sorted(range(study.classes), key=lambda k: (sum(base[k]), k))
    lines = [(names[k], (_cell(spread(base[k])), *(_cell(change[k], sign=True) for _, change in found))) for k in order]
    caption = (
        f"Accuracy of {study.reference.name} on each class, %, and what the other arms have more, in points: mean ± "
        "sample standard deviation over seeds. Single classes get no verdict: among many, some differ by chance."
    )
    return Sheet("class", (study.reference.name, *(arm.name for arm, _ in found)), tuple(lines), caption)


def _cell(value: Spread, *, sign: bool = False) -> Cell:
    mean = signed(100 * value.mean, 1) if sign and abs(value.mean) >= 0.0005 else f"{100 * abs(value.mean):.1f}"
    return Cell(mean, "" if value.std is None else bare(100 * value.std, 1), value.mean)


def delta_plate(name: str, study: Study, names: Sequence[str]) -> Plate | None:
    """The accuracy that each arm gains or loses by class, a dot per seed."""
    found = [(arm, change) for arm in study.others if (change := deltas(arm, study.reference)) is not None]
    if not found:
        return None
    ends = [100 * value for _, change in found for each in change for value in each.values]
    span = 1.05 * min(*ends, -0.1), 1.05 * max(*ends, 0.1)
    panels = tuple(
        _deltas(f"{name}-class-{i}", arm, study.reference, change, names, span) for i, (arm, change) in enumerate(found)
    )
    few = f" Of {study.classes} classes the {CLASSES // 2} best and worst are drawn." if study.classes > CLASSES else ""
    caption = (
        f"A dot is one seed, the upright line the mean, in points; the best class on top, one scale for all arms.{few}"
    )
    return Plate(f"Accuracy by class, minus that of {study.reference.name}", caption, panels)


def _deltas(
    name: str,
    arm: Arm,
    reference: Arm,
    change: Sequence[Spread],
    names: Sequence[str],
    span: tuple[float, float],
) -> Panel:
    order = sorted(range(len(change)), key=lambda k: (-change[k].mean, k))
    if len(order) > CLASSES:
        order = [*order[: CLASSES // 2], *order[-CLASSES // 2 :]]
    texts = [cut(names[k], 14) for k in order]

    def draw(style: Style) -> Figure:
        height = 0.75 + 0.155 * len(order)
        with style.drawing(SMALL, height) as (figure, axes):
            for place, k in enumerate(order):
                _delta(axes, change[k], -place, style)
            axes.axvline(0, color=style.ink, lw=0.7, ls=":")
            axes.set(xlim=span, ylim=(0.6 - len(order), 0.6), xlabel="points")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
            _classes(axes, texts)
            axes.set_title(cut(arm.name, 36), loc="left")
            left = 0.04 + 0.024 * max(map(len, texts))
            axes.set_position((left, 0.4 / height, 0.96 - left, 1 - 0.66 / height))
        return figure

    told = "; ".join(f"{names[k]} {signed(100 * change[k].mean, 1)}" for k in order)
    title = f"Accuracy of {arm.name} by class, minus that of {reference.name}"
    return Panel(name, title, told, draw, about=arm.name)


def _classes(axes: Axes, names: Sequence[str]) -> None:
    """A line per class, the first on top at 0."""
    axes.set_yticks(range(0, -len(names), -1), names)
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _delta(axes: Axes, change: Spread, y: float, style: Style) -> None:
    """A dot per seed, and an upright line at their mean."""
    values, mean = [100 * value for value in change.values], 100 * change.mean
    colour = style.colours[0 if mean >= 0 else 1]
    axes.plot(values, [y] * len(values), "o", ms=3.6, color=colour, alpha=0.5, mew=0, clip_on=False)
    axes.plot([mean, mean], [y - 0.3, y + 0.3], color=style.ink, lw=1.4, solid_capstyle="butt")
