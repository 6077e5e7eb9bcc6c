"""A table of numbers as a drawing: tinted cells with their numbers where there is room, else a pixel per number."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.png import png
from potstill.report import svg

WRITTEN = 12
"""Rows or columns up to which every cell holds its number."""

LARGEST = 256
"""Rows or columns above which nothing is drawn."""

WIDTH = 198.0
"""Of the drawing, in units in which a letter is 6 to 9 high; that of the other drawings that stand side by side."""

HEAD, FOOT = 15.0, 21.0

HEADING, NAME = 42, 9
"""Letters of a heading, and of the name of a row or column, that there is room for."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cells:
    """What is drawn.

    Attributes:
        tint: How strong each cell is, from -1 to 1: below 0 in the colour of worse, above in that of better.
        texts: What stands in each cell, where there is room.
        rows: What the rows are called.
        columns: What the columns are called.
        axes: What rows and columns are.
    """

    tint: Numbers
    texts: Sequence[Sequence[str]]
    rows: Sequence[str]
    columns: Sequence[str]
    axes: tuple[str, str]


def drawn(name: str, heading: str, cells: Cells, title: str, description: str) -> str:
    """The cells as an `svg` element with a heading."""
    down, across = cells.tint.shape
    written = max(down, across) <= WRITTEN
    left = 14.5 + 4.1 * max(map(_length, cells.rows)) if written else 11.0
    turned = written and max(map(_length, cells.columns)) > 3
    names = (4.4 * max(map(_length, cells.columns)) if turned else 8.0) if written else 0.0
    size = (WIDTH - left - 1) / across
    height = HEAD + size * down
    inside = _written(cells, left, size, turned) if written else _pixels(name, cells.tint, left, size)
    middle = HEAD + size * down / 2
    frame = (
        f'<text x="0" y="9" font-size="9">{html.escape(cut(heading, HEADING))}</text>{inside}'
        f'<path d="M{left:.2f} {HEAD:g}h{size * across:.2f}v{size * down:.2f}h-{size * across:.2f}z" fill="none" '
        'stroke="var(--rule)" stroke-width=".8"/>'
        f'<g font-size="7.5" text-anchor="middle"><text x="{left + size * across / 2:.1f}" '
        f'y="{height + names + 11:.1f}">{html.escape(cells.axes[1])}</text>'
        f'<text transform="translate(6 {middle:.1f}) rotate(-90)">{html.escape(cells.axes[0])}</text></g>'
    )
    box = f"0 0 {WIDTH:g} {height + names + FOOT - 5:.1f}"
    return svg.element(box, name, title, description, f'<g fill="currentColor">{frame}</g>')


def _length(name: str) -> int:
    return min(len(name), NAME)


def cut(text: str, length: int) -> str:
    """A text as it fits into so many letters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _written(cells: Cells, left: float, size: float, turned: bool) -> str:
    """A square per cell, its number, and the names of rows and columns."""
    down, across = cells.tint.shape
    strength = np.abs(cells.tint)
    letters = min(7.5, size * 0.37)
    squares: list[str] = []
    numbers: list[str] = []
    for y in range(down):
        for x in range(across):
            place = (left + x * size, HEAD + y * size)
            if strength[y, x] > 0:
                colour = "var(--c1)" if cells.tint[y, x] > 0 else "var(--c2)"
                squares.append(
                    f'<path d="M{place[0] + 0.4:.1f} {place[1] + 0.4:.1f}h{size - 0.8:.1f}v{size - 0.8:.1f}'
                    f'h-{size - 0.8:.1f}z" fill="{colour}" fill-opacity="{0.08 + 0.52 * strength[y, x]:.2f}"/>'
                )
            if cells.texts[y][x]:
                middle = (place[0] + size / 2, place[1] + size / 2 + letters * 0.36)
                numbers.append(f'<text x="{middle[0]:.1f}" y="{middle[1]:.1f}">{html.escape(cells.texts[y][x])}</text>')
    beside = [
        f'<text x="{left - 3:.1f}" y="{HEAD + (y + 0.5) * size + 2.5:.1f}">{html.escape(cut(row, NAME))}</text>'
        for y, row in enumerate(cells.rows)
    ]
    foot = HEAD + size * down
    below = [_below(cut(column, NAME), left + (x + 0.5) * size, foot, turned) for x, column in enumerate(cells.columns)]
    return (
        f'{"".join(squares)}<g font-size="{letters:.1f}" text-anchor="middle">{"".join(numbers)}</g>'
        f'<g font-size="7" text-anchor="end">{"".join(beside)}</g>'
        f'<g font-size="7" text-anchor="{"end" if turned else "middle"}">{"".join(below)}</g>'
    )


def _below(text: str, x: float, foot: float, turned: bool) -> str:
    if turned:
        return f'<text transform="translate({x + 2.5:.1f} {foot + 3:.1f}) rotate(-90)">{html.escape(text)}</text>'
    return f'<text x="{x:.1f}" y="{foot + 8:.1f}">{html.escape(text)}</text>'


def _pixels(name: str, tint: Numbers, left: float, size: float) -> str:
    """One picture per colour, in which brightness is strength; it serves as a mask, so that the page colours it."""
    down, across = tint.shape
    box = f'x="{left:.2f}" y="{HEAD:g}" width="{size * across:.2f}" height="{size * down:.2f}"'
    parts: list[str] = []
    for sign, colour in ((1, "c1"), (-1, "c2")):
        # The root makes single images visible beside classes that are mixed up often.
        strength = np.sqrt(np.clip(sign * tint, 0, 1))
        if not strength.any():
            continue
        picture = base64.b64encode(png((255 * strength).astype(np.uint8))).decode()
        parts.append(
            f'<mask id="{name}-{colour}"><image {box} preserveAspectRatio="none" style="image-rendering:pixelated" '
            f'href="data:image/png;base64,{picture}"/></mask>'
            f'<rect {box} fill="var(--{colour})" mask="url(#{name}-{colour})"/>'
        )
    return "".join(parts)
