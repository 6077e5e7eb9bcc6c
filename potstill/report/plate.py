"""Figures of a report: drawings with their words, set together under one heading."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from potstill.report import svg
from potstill.report.rows import Row, chosen, students
from potstill.report.style import DASHES, MARKERS, PAGE, Style

COLOURED = 6
"""How many arms of a comparison have a colour of their own."""


@dataclass(frozen=True)
class Panel:
    """One drawing.

    Attributes:
        name: Unique on the page, and what its file is called: "g1-reliability-2".
        title: What is drawn, for those who cannot see it.
        description: What it shows, in numbers.
        draw: Draws it in a style.
        about: Which of several alike it is, an arm say; empty for one of its own.
        page: What stands on the page; empty for what `draw` gives.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Style], Figure]
    about: str = ""
    page: str = ""

    @property
    def svg(self) -> str:
        """As an `svg` element of the page."""
        return self.page or svg.inline(self.draw(PAGE), self.name, self.title, self.description)


@dataclass(frozen=True)
class Plate:
    """Drawings under one heading and one caption; `wide` ones stand two to a line, others as many as fit."""

    heading: str
    caption: str
    panels: tuple[Panel, ...]
    wide: bool = False


@dataclass(frozen=True)
class Mark:
    """What an arm is told by in every figure; without a place it is one of many, in grey."""

    place: int | None

    def colour(self, style: Style) -> str:
        """Its colour."""
        return style.soft if self.place is None else style.colours[self.place]

    @property
    def dash(self) -> Any:
        """Its line."""
        return DASHES[self.place or 0]

    @property
    def marker(self) -> str:
        """The mark of its mean."""
        return MARKERS[self.place or 0]


def marks(table: Sequence[Row]) -> dict[str, Mark]:
    """A mark for every arm, the same in all figures: a colour for the first and for the best of the others."""
    coloured = [row.arm for row in chosen(students(table), COLOURED)]
    return {row.arm: Mark(coloured.index(row.arm) if row.arm in coloured else None) for row in table}


def few(shown: Sequence[Row], arms: Sequence[Row]) -> str:
    """What a caption says where not every arm is drawn."""
    if len(shown) == len(arms):
        return ""
    others = "the best other are" if len(shown) == 2 else f"the {len(shown) - 1} best others are"
    return f" Of {len(arms)} arms the first and {others} shown."
