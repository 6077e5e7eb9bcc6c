"""Run folders to read: one HTML page, its tables as Markdown, CSV and LaTeX, and tables to keep beside the code.

Nothing here imports torch; matplotlib and jinja2 are imported when a page is made.
"""

from collections.abc import Sequence
from pathlib import Path


def write(paths: Sequence[Path], out: Path, save: Path | None = None) -> Path:
    """Write `report.html`, `report.md`, `report.csv` and `report.tex`; returns the path of the page.

    Args:
        paths: sweep files, run folders, or folders that hold either.
        out: the folder of the report, made where it is missing.
        save: a folder for `<recipe>.json`, `.md`, `.csv` and `.tex` of every sweep, made where it is missing.

    Raises:
        UserError: a path does not exist or holds nothing that can be reported.
    """
    from potstill.record import make_folder, write_bytes
    from potstill.report import latex
    from potstill.report.load import gather
    from potstill.report.page import render
    from potstill.report.save import save_tables, table
    from potstill.report.spreadsheet import spreadsheet
    from potstill.report.tables import document
    from potstill.report.tuning import markdown

    report = gather(paths)
    make_folder(out)
    if save is not None:
        save_tables(report.groups, save)
    write_bytes(out / "report.md", "\n".join(filter(None, [document(report), markdown(report.tunings)])).encode())
    write_bytes(out / "report.csv", spreadsheet([table(group) for group in report.groups]).encode())
    write_bytes(out / "report.tex", latex.document(report.groups).encode())
    page = out / "report.html"
    write_bytes(page, render(report).encode())
    return page
