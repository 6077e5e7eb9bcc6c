"""Figures for papers: every drawing of a report as PDF, SVG and PNG, drawn by matplotlib in a plain style."""

# pyright: reportUnknownMemberType=false

import html
import io
import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib

from potstill.record import make_folder, write_bytes
from potstill.report.plate import Panel
from potstill.report.style import PAPER

DOTS_PER_INCH = 300

FONTS = "Arial, Helvetica, 'Liberation Sans', 'DejaVu Sans', sans-serif"
"""What a reader's own machine may have: letters in an SVG stay letters."""


def save_figures(name: str, panels: Iterable[Panel], folder: Path) -> None:
    """Write `<name>-<figure>.pdf`, `.svg` and `.png` for every panel, a column wide, in type of 7 points.

    Raises:
        UserError: the folder cannot be made.
    """
    make_folder(folder)
    for panel in panels:
        for kind, payload in _printed(panel).items():
            write_bytes(folder / f"{name}-{file_name(panel)}.{kind}", payload)


def file_name(panel: Panel) -> str:
    """What a panel's file is called behind its recipe: reliability-2-soft-targets."""
    return "-".join(part for part in (panel.name.partition("-")[2], slug(panel.about)) if part)


def slug(text: str) -> str:
    """A text as part of a file's name: lower case, letters, digits and dashes."""
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-.")


def _printed(panel: Panel) -> dict[str, bytes]:
    figure = panel.draw(PAPER)
    told = {"Title": panel.title}
    # What differs from one moment to the next is left out: equal records give equal files.
    metadata = {
        "pdf": told | {"Subject": panel.description, "CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": told | {"Description": panel.description, "Software": None},
    }
    files: dict[str, bytes] = {}
    with matplotlib.rc_context(PAPER.settings):
        for kind, words in metadata.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=words)
            files[kind] = buffer.getvalue()
    files["svg"] = _told(files["svg"].decode(), panel).encode()
    return files


def _told(text: str, panel: Panel) -> str:
    """An SVG with its title and what it shows, for those who cannot see it, in fonts that most have."""
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"font: (?:\w+ )?([\d.]+px) [^;\"]*", rf"font-size: \1; font-family: {FONTS}", text)
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {FONTS}", text)
    head, _, body = text.partition(">")
    words = f"<title>{html.escape(panel.title)}</title>\n<desc>{html.escape(panel.description)}</desc>"
    return f'{head} role="img">\n{words}{re.sub(r" +$", "", body, flags=re.M)}'
