"""What figures look like: on the page, whose colours they take over, and in a paper, where they stand by themselves."""

# pyright: reportUnknownMemberType=false

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

WIDE, SMALL = 3.5, 2.6
"""Inches: a column of a journal; and a drawing of which several stand side by side."""

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (5, 1.4, 1, 1.4)), (0, (2, 1)), (0, (7, 1.4, 2, 1.4)))
"""One per colour, so that curves are told apart without it."""

MARKERS = "osD^vP"
"""One per colour, so that dots are told apart without it."""


CLOSE = 40
"""Below which ratio of its ends a logarithmic axis has labels at 2 and 5 too."""


@dataclass(frozen=True)
class Style:
    """Colours and type of a figure.

    Attributes:
        ink: Text and lines that belong to no arm.
        soft: What stands behind, and is still to be read.
        faint: Rules and grids.
        colours: Six, told apart by colour-blind readers, each with a dash and a marker of its own.
        families: Fonts, the first that is installed; a letter that it lacks comes from the next.
        opaque: The colour of the paper; empty where a figure lies on the page's own.
        small: Size in points of the type of a small drawing; that of a wide one is 7, which the page enlarges.
    """

    ink: str
    soft: str
    faint: str
    colours: tuple[str, ...]
    families: tuple[str, ...] = ("DejaVu Sans",)
    opaque: str = ""
    small: float = 7

    @contextmanager
    def drawing(self, width: float, height: float) -> Generator[tuple[Figure, Axes], None, None]:
        """A figure of so many inches with one axes that leaves room for labels of a fixed size."""
        size = 7 if width >= WIDE else self.small
        sizes = {"font.size": size, "axes.titlesize": size + 0.5, "legend.fontsize": size}
        with matplotlib.rc_context(self.settings | sizes):
            figure = Figure(figsize=(width, height))
            figure.patch.set_visible(bool(self.opaque))
            left, right, bottom, top = 0.47, 0.11, 0.42, 0.26
            place = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
            axes = figure.add_axes(place)
            axes.patch.set_visible(False)
            # Ticks are made when the figure is written, where these settings no longer hold.
            axes.tick_params(labelsize=size)
            yield figure, axes

    @cached_property
    def settings(self) -> Any:
        """For matplotlib; they hold while a figure is drawn and while it is written."""
        known = {entry.name for entry in font_manager.fontManager.ttflist} if len(self.families) > 1 else self.families
        return cast(Any, _COMMON | _coloured(self) | {"font.family": [name for name in self.families if name in known]})


def _coloured(style: Style) -> dict[str, object]:
    ink = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    faint = ("axes.edgecolor", "grid.color", "xtick.color", "ytick.color")
    paper = {"figure.facecolor": style.opaque, "savefig.facecolor": style.opaque} if style.opaque else {}
    return {**dict.fromkeys(ink, style.ink), **dict.fromkeys(faint, style.faint), **paper}


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Make the horizontal axis one of orders of magnitude, its labels numbers as one types them: 0.001, 1e-05."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < CLOSE * low else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_typed))


def _typed(value: float, _: int | None) -> str:
    return f"{value:g}"


_COMMON: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "potstill",
    # Type 42 keeps letters as letters, which journals ask for.
    "pdf.fonttype": 42,
    # A name is drawn as it is written; whatever stands between two dollars would be read as a formula.
    "text.parse_math": False,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}

PAGE = Style(
    # Stand-ins: each becomes a variable of the page, which has other values in the dark (see `potstill.report.svg`).
    ink="#010203",
    soft="#010205",
    faint="#010204",
    colours=tuple(f"#0102{number:02x}" for number in range(0x11, 0x17)),
    small=8,
)

PAPER = Style(
    ink="#111111",
    soft="#6b6b6b",
    faint="#cfcfcf",
    # The page's hues, but of unlike lightness: in a copy without colour they are six greys.
    colours=("#08519c", "#f0882d", "#00846a", "#6b1f63", "#d9b02e", "#262b31"),
    families=("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"),
    opaque="#ffffff",
)
