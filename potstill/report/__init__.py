"""Run folders to read: one HTML page, its tables as Markdown, CSV and LaTeX, and tables to keep beside the code.

Nothing here imports torch; matplotlib and jinja2 are imported when a page is made.
"""

from collections.abc import Sequence
from pathlib import Path


def write(paths: Sequence[Path], out: Path, save: Path | None = None, figures: Path | None = None) -> Path:
    """Write `report.html`, `report.md`, `report.csv` and `report.tex`; returns the path of the page.

    Args:
        paths: sweep files, run folders, or folders that hold either.
        out: the folder of the report, made where it is missing.
        save: a folder for `<recipe>.json`, `.md`, `.csv` and `.tex` of every sweep, made where it is missing.
        figures: a folder for every figure as PDF, SVG and PNG, made where it is missing.

    Raises:
        UserError: a path does not exist or holds nothing that can be reported.
    """
    from potstill.record import make_folder, write_bytes
    from potstill.report import latex, tuning
    from potstill.report.document import document
    from potstill.report.load import gather
    from potstill.report.page import render, sections, tunings
    from potstill.report.press import save_figures
    from potstill.report.save import file_name, file_names, save_tables, table
    from potstill.report.spreadsheet import spreadsheet

    report = gather(paths)
    names = [] if figures is None else file_names(report.groups, figures)
    make_folder(out)
    if save is not None:
        save_tables(report.groups, save)
    told = [document(report), tuning.document(report.tunings)]
    write_bytes(out / "report.md", "\n".join(filter(None, told)).encode())
    write_bytes(out / "report.csv", spreadsheet([table(group) for group in report.groups]).encode())
    write_bytes(out / "report.tex", latex.document(report.groups).encode())
    page = out / "report.html"
    made, found = sections(report), tunings(report)
    write_bytes(page, render(report, made, found).encode())
    if figures is not None:
        for name, section in zip(names, made, strict=True):
            save_figures(name, section.panels, figures)
        for one in found:
            save_figures(f"{file_name(one.tuning.recipe)}-{one.anchor}", one.panels, figures)
    return page
