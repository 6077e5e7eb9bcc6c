"""The tables of a report for a paper: LaTeX with the rules of booktabs."""

from collections.abc import Sequence

from potstill.report.entry import Group
from potstill.report.rows import rows
from potstill.report.tables import Lines
from potstill.report.written import note, written

HEAD = "% Written by `potstill report`; needs \\usepackage{booktabs} in the preamble, and \\input for this file."

MARKS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "·": r"$\cdot$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "²": "$^2$",
}
"""Characters that LaTeX reads as commands or that its usual fonts lack."""

NAMES = (
    "alpha beta gamma delta varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau varphi chi psi omega Delta"
)

GREEK = dict(zip("αβγδεζηθκλμνξπρστφχψωΔ", NAMES.split(), strict=True))


def document(groups: Sequence[Group]) -> str:
    """The tables of all groups, as a file to be taken in by another."""
    return "\n".join([HEAD, *(section(group) for group in groups)])


def section(group: Group) -> str:
    """The tables of one group."""
    arms = rows(group)
    first, *others = written(group, arms)
    title = f"{group.recipe}: {group.title}" if group.title else group.recipe
    title += "" if title.endswith((".", "?", "!")) else "."
    tables = [table(first, f"{title} {note(group, arms)}")]
    tables += [table(other, _caption(group, other)) for other in others]
    return "\n".join(tables)


def _caption(group: Group, lines: Lines) -> str:
    text = f"{group.recipe}: {lines.title.removesuffix(', %')}"
    return f"{text}, in %." if lines.title.endswith(", %") else f"{text}. {lines.note}".rstrip()


def table(lines: Lines, caption: str) -> str:
    """One table: words to the left, numbers to the right."""
    steps = [r"\quad " * depth for depth in lines.depths] or [""] * len(lines.cells)
    body = [
        step + " & ".join(escaped(cell) for cell in cells) + r" \\"
        for step, cells in zip(steps, lines.cells, strict=True)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \begin{{tabular}}{{{'l' * lines.words}{'r' * (len(lines.heads) - lines.words)}}}",
            r"    \toprule",
            f"    {' & '.join(escaped(head) for head in lines.heads)} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """A user's name or a number as it should read in a paper."""
    return "".join(MARKS.get(c) or (f"$\\{GREEK[c]}$" if c in GREEK else c) for c in text)
