"""A matplotlib figure as SVG that belongs to its page: the page's colours and type, ids of its own, no outside."""

# pyright: reportUnknownMemberType=false

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from potstill.report.style import PAGE

_VARIABLES = {
    PAGE.ink: "currentColor",
    PAGE.soft: "var(--soft)",
    PAGE.faint: "var(--rule)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(PAGE.colours, start=1)},
}


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `svg` element; `name` is unique on the page, the two texts are read to those who cannot see."""
    buffer = io.StringIO()
    with matplotlib.rc_context(PAGE.settings):
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
        f'<svg viewBox="{view}" role="img" aria-labelledby="{name}-title" aria-describedby="{name}-desc">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{body}</svg>'
    )
