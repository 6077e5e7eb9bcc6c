"""A matplotlib figure as SVG that belongs to its page: the page's colours and type, ids of its own, no outside."""

# pyright: reportUnknownMemberType=false

import html
import io
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"
FAINT = "#010204"
PAPER = "#010205"
COLOURS = tuple(f"#0102{number:02x}" for number in range(0x11, 0x17))
"""Six colours of the page, told apart by colour-blind readers; further arms repeat them with another dash."""

DASHES = ("-", "--", ":", "-.")

# The colours are stand-ins: each becomes a variable of the page, which has other values in the dark.
_VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(COLOURS, start=1)},
}

# Cast, as the names of settings are typed one by one in newer versions of matplotlib only.
_STYLE = cast(
    Any,
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "potstill",
        "font.family": ["DejaVu Sans"],
        "font.size": 8.5,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlesize": 9,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.4,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": 8,
    },
)


@contextmanager
def drawing(width: float, height: float) -> Generator[tuple[Figure, Axes], None, None]:
    """A transparent figure of so many inches with one axes that leaves room for labels of a fixed size."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        figure.patch.set_visible(False)
        left, right, bottom, top = 0.47, 0.08, 0.42, 0.28
        axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
        axes.patch.set_visible(False)
        yield figure, axes


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `svg` element; `name` is unique on the page, the two texts are read to those who cannot see."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<defs>\s*</defs>", "", text, flags=re.S
    )
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", r"font-size: \2", text)
    text = re.sub(r"#0102[0-9a-f]{2}\b", lambda found: _VARIABLES[found.group()], text)
    view = re.search(r'viewBox="([^"]*)"', text)
    assert view is not None
    body = re.sub(r"\n\s*", "\n", text[text.index(">") + 1 :]).strip().removesuffix("</svg>")
    return element(view.group(1), name, title, description, body)


def element(view: str, name: str, title: str, description: str, body: str) -> str:
    """An `svg` element around what is drawn, with the two texts that are read to those who cannot see it."""
    return (
        f'<svg viewBox="{view}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{body}</svg>'
    )
