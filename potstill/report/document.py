"""A report as Markdown."""

from collections.abc import Sequence

from potstill.report.entry import Group
from potstill.report.find import Notice
from potstill.report.load import Report
from potstill.report.origin import environments, remarks
from potstill.report.rows import rows
from potstill.report.tables import Lines
from potstill.report.words import summary
from potstill.report.written import note, written


def document(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [section(group) for group in report.groups]
    if report.left_out:
        parts.append("\n".join(["## Left out", "", *_notices(report.left_out), ""]))
    return "\n".join(parts)


def section(group: Group) -> str:
    """One group as Markdown: what was compared, how, with what result."""
    table = rows(group)
    lines = [
        f"# {group.recipe}: {group.title}" if group.title else f"# {group.recipe}",
        "",
        escaped(summary(group, table)),
        "",
    ]
    if group.command:
        lines += [f"Command: `{group.command}`  "]
    lines += [f"Environment: {'; '.join(environments(group))}", ""]
    compared, *others = written(group, table)
    lines += [*markdown(compared), "", escaped(note(group, table))]
    for other in others:
        lines += ["", f"## {other.title}", "", *markdown(other)]
        lines += ["", escaped(other.note)] if other.note else []
    for title, notices in (("Left out", group.left_out), ("Remarks", remarks(group))):
        if notices:
            lines += ["", f"## {title}", "", *_notices(notices)]
    return "\n".join([*lines, ""])


def escaped(text: str) -> str:
    """A user's name as it should read in Markdown."""
    for mark in "\\|*_`<":
        text = text.replace(mark, f"\\{mark}")
    return text


def _notices(notices: Sequence[Notice]) -> list[str]:
    return [f"- **{escaped(notice.name)}**: {escaped(notice.sentence)}" for notice in notices]


def markdown(table: Lines) -> list[str]:
    """A table in Markdown: words to the left, numbers to the right."""
    rule = "|".join([*("---" for _ in table.heads[: table.words]), *("---:" for _ in table.heads[table.words :])])
    mark = "**" if table.across else ""
    steps = ["→ " * depth for depth in table.depths] or [""] * len(table.cells)
    lines = [
        " | ".join(
            [f"{mark}{step}{escaped(cells[0])}{mark}", *map(escaped, cells[1 : table.words]), *cells[table.words :]]
        )
        for step, cells in zip(steps, table.cells, strict=True)
    ]
    return [
        f"| {' | '.join(escaped(head) for head in table.heads)} |",
        f"|{rule}|",
        *(f"| {line} |" for line in lines),
    ]
