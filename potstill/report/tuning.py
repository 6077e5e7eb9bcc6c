"""A tuning on the page: what it found, how it got there, and what each flag does to the validation accuracy."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from potstill.report import svg
from potstill.report.figures import Panel, Plate
from potstill.report.tuned import Axis, Trial, Tuning

SHOWN = 10
"""How many of the best trials the table shows."""


@dataclass(frozen=True)
class Tuned:
    """One tuning, ready to be set."""

    anchor: str
    tuning: Tuning
    heading: str
    summary: str
    overview: tuple[Plate, ...]
    responses: Plate | None
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tuned(number: int, tuning: Tuning) -> Tuned:
    """Figures and words; `number` tells it from the others on the page."""
    name = f"t{number}"
    overview = [_history(f"{name}-history", tuning)] if tuning.finished else []
    overview += [_importances(f"{name}-importance", tuning)] if tuning.importances else []
    responses = _responses(f"{name}-response", tuning) if tuning.finished else None
    heads, *lines = table(tuning)
    return Tuned(
        anchor=f"tuning-{number}",
        tuning=tuning,
        heading=heading(tuning),
        summary=summary(tuning),
        overview=tuple(overview),
        responses=responses,
        heads=heads,
        lines=tuple(lines),
    )


def heading(tuning: Tuning) -> str:
    """What was tuned."""
    return f"{tuning.recipe}, {tuning.arm}: {' and '.join(axis.name for axis in tuning.axes)}"


def table(tuning: Tuning) -> list[tuple[str, ...]]:
    """The best trials, below the heads of the columns."""
    best = [
        (str(t.number + 1), *(said(t.values[axis.name]) for axis in tuning.axes), percent(t.accuracy))
        for t in tuning.finished[:SHOWN]
    ]
    return [("trial", *(axis.name for axis in tuning.axes), "validation accuracy, %"), *best]


def summary(tuning: Tuning) -> str:
    """What was found, in sentences."""
    counts = {status: sum(t.status == status for t in tuning.trials) for status in ("pruned", "diverged", "under way")}
    words = {"pruned": "given up early", "diverged": "diverged", "under way": "under way"}
    rest = "".join(f", {count} {words[status]}" for status, count in counts.items() if count)
    number = len(tuning.trials)
    told = f"{number} trial{'' if number == 1 else 's'}: {len(tuning.finished)} finished{rest}."
    if not tuning.finished:
        return told
    best, first = tuning.finished[0], tuning.first
    values = ", ".join(f"{name} {said(value)}" for name, value in best.values.items())
    text = f"Best on the validation images is {values}, with {percent(best.accuracy)} %"
    if first is not None and first != best:
        text += f"; what the recipe has by itself gave {percent(first.accuracy)} %"
    elif first is not None:
        text += ", which the recipe has by itself"
    return f"{text}. {told}"


def markdown(tunings: Sequence[Tuning]) -> str:
    """Every tuning in words and a table."""
    parts: list[str] = []
    for tuning in tunings:
        parts += [f"# Tuning of {heading(tuning)}", "", summary(tuning), "", f"Command: `{tuning.command}`", ""]
        heads, *lines = table(tuning)
        if lines:
            rows = [heads, tuple("---" for _ in heads), *lines]
            parts += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(parts)


def percent(accuracy: float | None) -> str:
    """An accuracy as the tables have it."""
    return "" if accuracy is None else f"{100 * accuracy:.2f}"


def said(value: Any) -> str:
    """A value as a person writes it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _history(name: str, tuning: Tuning) -> Plate:
    finished = sorted(tuning.finished, key=lambda trial: trial.number)
    numbers = [trial.number + 1 for trial in finished]
    values = [_percent(trial) for trial in finished]
    with svg.drawing(3.8, 2.4) as (figure, axes):
        axes.plot(numbers, values, "o", ms=4, color=svg.COLOURS[0], alpha=0.6, mew=0)
        last = max(trial.number for trial in tuning.trials) + 1
        axes.step([*numbers, last], [*accumulate(values, max), max(values)], where="post", color=svg.INK)
        _given_up(axes, [t.number + 1 for t in _lost(tuning)])
        axes.set(xlabel="trial", ylabel="validation accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        best = tuning.finished[0]
        described = f"The best is trial {best.number + 1} with {_percent(best):.2f} %."
        drawn = svg.inline(figure, name, "Validation accuracy by trial", described)
    caption = f"A dot is a finished trial, the line the best so far.{_ticks(tuning)} {described}"
    return Plate("Course of the tuning", caption, (Panel(drawn),), wide=True)


def _responses(name: str, tuning: Tuning) -> Plate:
    panels = tuple(_response(f"{name}-{place}", tuning, axis) for place, axis in enumerate(tuning.axes))
    caption = (
        "Validation accuracy of each finished trial over each flag by itself, while the others vary too; the diamond "
        f"marks the best.{_ticks(tuning)}"
    )
    return Plate("What each flag does", caption, panels)


def _response(name: str, tuning: Tuning, axis: Axis) -> Panel:
    words = not all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis.values)

    def place(trial: Trial) -> float:
        value = trial.values[axis.name]
        return float(axis.values.index(value)) if words else float(value)

    best = tuning.finished[0]
    with svg.drawing(2.75, 1.95) as (figure, axes):
        others = tuning.finished[1:]
        axes.plot([place(t) for t in others], [_percent(t) for t in others], "o", ms=4, color=svg.COLOURS[0], mew=0)
        axes.plot([place(best)], [_percent(best)], "D", ms=6, mfc="none", mec=svg.COLOURS[1], mew=1.4, clip_on=False)
        if axis.log:
            axes.set_xscale("log")
        if words:
            axes.set_xticks(range(len(axis.values)), [str(value) for value in axis.values])
            axes.set_xlim(-0.5, len(axis.values) - 0.5)
        elif not axis.log:
            low, high = min(axis.values), max(axis.values)
            axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        _given_up(axes, [place(t) for t in _lost(tuning) if axis.name in t.values])
        axes.set_title(axis.name, loc="left")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        described = f"The best trial has {axis.name} {said(best.values[axis.name])}: {_percent(best):.2f} %."
        return Panel(svg.inline(figure, name, f"Validation accuracy over {axis.name}", described))


def _importances(name: str, tuning: Tuning) -> Plate:
    shares = sorted(tuning.importances.items(), key=lambda item: item[1])
    with svg.drawing(3.8, 0.6 + 0.28 * len(shares)) as (figure, axes):
        names = [name for name, _ in shares]
        axes.barh(names, [100 * share for _, share in shares], color=svg.COLOURS[0], height=0.6)
        axes.set(xlim=(0, 100), xlabel="share of the differences, %")
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        left, height = 0.04 + 0.021 * max(map(len, names)), figure.get_figheight()
        axes.set_position((left, 0.42 / height, 0.96 - left, 1 - 0.47 / height))
        described = "; ".join(f"{name} {100 * share:.0f} %" for name, share in reversed(shares))
        drawn = svg.inline(figure, name, "Importances", described)
    caption = (
        f"How much of the differences between finished trials each flag explains by itself (fANOVA): {described}. Over "
        "other ranges it would be otherwise."
    )
    return Plate("What mattered", caption, (Panel(drawn),), wide=True)


def _percent(trial: Trial) -> float:
    return 100 * (trial.accuracy or 0.0)


def _lost(tuning: Tuning) -> list[Trial]:
    return [trial for trial in tuning.trials if trial.status in ("pruned", "diverged")]


def _given_up(axes: Axes, places: Sequence[float]) -> None:
    """Ticks along the foot: how good such a trial would have become nobody knows."""
    for place in places:
        axes.axvline(place, ymax=0.06, color=svg.COLOURS[1], lw=1.2)


def _ticks(tuning: Tuning) -> str:
    return " Ticks at the foot are trials that were given up or diverged." if _lost(tuning) else ""
