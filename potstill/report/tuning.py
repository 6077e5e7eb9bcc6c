"""A tuning on the page: what it found, how it got there, and what each flag does to the validation accuracy."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from potstill.report.document import escaped, markdown
from potstill.report.plate import Panel, Plate
from potstill.report.style import SMALL, WIDE, Style, logarithmic
from potstill.report.tables import Lines
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
    best: Lines

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Every drawing, in the order of the page."""
        responses = () if self.responses is None else (self.responses,)
        return tuple(panel for plate in (*self.overview, *responses) for panel in plate.panels)


def tuned(number: int, tuning: Tuning) -> Tuned:
    """Figures and words; `number` tells it from the others on the page."""
    name = f"t{number}"
    overview = [_history(f"{name}-history", tuning)] if tuning.finished else []
    overview += [_importances(f"{name}-importance", tuning)] if tuning.importances else []
    return Tuned(
        anchor=f"tuning-{number}",
        tuning=tuning,
        heading=heading(tuning),
        summary=summary(tuning),
        overview=tuple(overview),
        responses=_responses(f"{name}-response", tuning) if tuning.finished else None,
        best=table(tuning),
    )


def heading(tuning: Tuning) -> str:
    """What was tuned."""
    return f"{tuning.recipe}, {tuning.arm}: {' and '.join(axis.name for axis in tuning.axes)}"


def table(tuning: Tuning) -> Lines:
    """The best trials."""
    heads = ("trial", *(axis.name for axis in tuning.axes), "validation accuracy, %")
    best = [
        (str(t.number + 1), *(said(t.values[axis.name]) for axis in tuning.axes), percent(t.accuracy))
        for t in tuning.finished[:SHOWN]
    ]
    return Lines("The best trials", heads, tuple(best))


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


def document(tunings: Sequence[Tuning]) -> str:
    """Every tuning as Markdown, in words and a table."""
    parts: list[str] = []
    for tuning in tunings:
        told = escaped(f"Tuning of {heading(tuning)}"), escaped(summary(tuning))
        parts += [f"# {told[0]}", "", told[1], "", f"Command: `{tuning.command}`", ""]
        best = table(tuning)
        parts += [*markdown(best), ""] if best.cells else []
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
    last = max(trial.number for trial in tuning.trials) + 1

    def draw(style: Style) -> Figure:
        with style.drawing(WIDE, 2.2) as (figure, axes):
            axes.plot(numbers, values, "o", ms=3.5, color=style.colours[0], alpha=0.6, mew=0)
            axes.step([*numbers, last], [*accumulate(values, max), max(values)], where="post", color=style.ink)
            _given_up(axes, [trial.number + 1 for trial in _lost(tuning)], style)
            axes.set(xlabel="trial", ylabel="validation accuracy, %")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure

    best = tuning.finished[0]
    told = f"The best is trial {best.number + 1} with {_percent(best):.2f} %."
    panel = Panel(name, "Validation accuracy by trial", told, draw)
    caption = f"A dot is a finished trial, the line the best so far.{_ticks(tuning)} {told}"
    return Plate("Course of the tuning", caption, (panel,), wide=True)


def _responses(name: str, tuning: Tuning) -> Plate:
    panels = tuple(_response(f"{name}-{place}", tuning, axis) for place, axis in enumerate(tuning.axes))
    caption = (
        "Validation accuracy of each finished trial over each flag by itself, while the others vary too; the diamond "
        f"marks the best.{_ticks(tuning)}"
    )
    return Plate("What each flag does", caption, panels)


def _response(name: str, tuning: Tuning, axis: Axis) -> Panel:
    words = not all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis.values)
    best, *others = tuning.finished

    def place(trial: Trial) -> float:
        value = trial.values[axis.name]
        return float(axis.values.index(value)) if words else float(value)

    def draw(style: Style) -> Figure:
        first, second, *_ = style.colours
        with style.drawing(SMALL, 1.95) as (figure, axes):
            axes.plot([place(t) for t in others], [_percent(t) for t in others], "o", ms=3.5, color=first, mew=0)
            axes.plot([place(best)], [_percent(best)], "D", ms=5, mfc="none", mec=second, mew=1.3, clip_on=False)
            _along(axes, axis, words)
            _given_up(axes, [place(t) for t in _lost(tuning) if axis.name in t.values], style)
            axes.set_title(axis.name, loc="left")
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        return figure

    told = f"The best trial has {axis.name} {said(best.values[axis.name])}: {_percent(best):.2f} %."
    return Panel(name, f"Validation accuracy over {axis.name}", told, draw, about=axis.name)


def _along(axes: Axes, axis: Axis, words: bool) -> None:
    """The scale of what was turned."""
    if axis.log:
        logarithmic(axes, min(axis.values), max(axis.values))
    elif words:
        axes.set_xticks(range(len(axis.values)), [str(value) for value in axis.values])
        axes.set_xlim(-0.5, len(axis.values) - 0.5)
    else:
        low, high = min(axis.values), max(axis.values)
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _importances(name: str, tuning: Tuning) -> Plate:
    shares = sorted(tuning.importances.items(), key=lambda item: item[1])

    def draw(style: Style) -> Figure:
        with style.drawing(WIDE, 0.6 + 0.28 * len(shares)) as (figure, axes):
            axes.barh([n for n, _ in shares], [100 * s for _, s in shares], color=style.colours[0], height=0.6)
            axes.set(xlim=(0, 100), xlabel="share of the differences, %")
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            left, height = 0.04 + 0.021 * max(len(n) for n, _ in shares), figure.get_figheight()
            axes.set_position((left, 0.42 / height, 0.96 - left, 1 - 0.47 / height))
        return figure

    told = "; ".join(f"{flag} {100 * share:.0f} %" for flag, share in reversed(shares))
    caption = (
        f"How much of the differences between finished trials each flag explains by itself (fANOVA): {told}. Over "
        "other ranges it would be otherwise."
    )
    return Plate("What mattered", caption, (Panel(name, "Importances", told, draw),), wide=True)


def _percent(trial: Trial) -> float:
    return 100 * (trial.accuracy or 0.0)


def _lost(tuning: Tuning) -> list[Trial]:
    return [trial for trial in tuning.trials if trial.status in ("pruned", "diverged")]


def _given_up(axes: Axes, places: Sequence[float], style: Style) -> None:
    """Ticks along the foot: how good such a trial would have become nobody knows."""
    for place in places:
        axes.axvline(place, ymax=0.06, color=style.colours[1], lw=1.2)


def _ticks(tuning: Tuning) -> str:
    return " Ticks at the foot are trials that were given up or diverged." if _lost(tuning) else ""
