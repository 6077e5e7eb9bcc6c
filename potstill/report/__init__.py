"""Run folders to read: one HTML page, the same as Markdown, and tables to keep beside the code.

Nothing here imports torch; matplotlib and jinja2 are imported when a page is made.
"""

from collections.abc import Sequence
from pathlib import Path


def write(paths: Sequence[Path], out: Path, save: Path | None = None) -> Path:
    """Write `report.html` and `report.md`; returns the path of the page.

    Args:
        paths: sweep files, run folders, or folders that hold either.
        out: the folder of the report, made where it is missing.
        save: a folder for `<recipe>.json` and `<recipe>.md`, one pair per sweep, made where it is missing.

    Raises:
        UserError: a path does not exist or holds nothing that can be reported.
    """
    from potstill.record import make_folder, write_bytes
    from potstill.report.load import gather
    from potstill.report.page import render
    from potstill.report.save import save_tables
    from potstill.report.tables import document

    report = gather(paths)
    make_folder(out)
    if save is not None:
        save_tables(report.groups, save)
    write_bytes(out / "report.md", document(report).encode())
    page = out / "report.html"
    write_bytes(page, render(report).encode())
    return page
