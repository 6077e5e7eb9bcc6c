"""Tables of a report: the comparison, values per seed, the grid; and all of them as Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from potstill.report.load import Group, Notice, Report
from potstill.report.rows import Grid, Row, Spread, grid, rows
from potstill.report.verdict import Verdict
from potstill.report.words import (
    amount,
    bare,
    environments,
    measured,
    probability,
    remarks,
    rule,
    ruling,
    seeds,
    signed,
    summary,
)


@dataclass(frozen=True)
class Cell:
    """What stands in a table: text, its spread, and the value to sort by (None: nothing was measured)."""

    text: str
    spread: str = ""
    value: float | str | None = None


DASH = "\N{EN DASH}"
"""What stands where nothing was measured."""

EMPTY = Cell(DASH)


@dataclass(frozen=True)
class Column:
    """A head with its unit, what it belongs to, and its cell in a row."""

    title: str
    unit: str
    family: str
    cell: Callable[[Row], Cell]
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """Columns that hold something, and a row of cells per arm."""

    columns: tuple[Column, ...]
    arms: tuple[Row, ...]
    cells: tuple[tuple[Cell, ...], ...]


def _spread(value: Spread | None, scale: float, places: int) -> Cell:
    if value is None:
        return EMPTY
    std = "" if value.std is None else bare(value.std * scale, places)
    return Cell(f"{value.mean * scale:.{places}f}", std, value.mean)


def _gap(row: Row) -> Cell:
    gap = row.over(lambda outcome: outcome.best_last_gap)
    return EMPTY if gap is None else Cell(signed(100 * gap.mean, 2), "", gap.mean)


def _parameters(row: Row) -> Cell:
    extra = f" (+{row.first.extra_parameters:,})" if row.first.extra_parameters else ""
    return Cell(f"{row.first.parameters:,}{extra}", "", row.first.parameters)


def _plain(value: float | None) -> Cell:
    return EMPTY if value is None else Cell(f"{value:g}", "", value)


def _published(row: Row) -> Cell:
    return EMPTY if row.published is None else Cell(f"{100 * row.published:.2f}", "", row.published)


def _verdict(row: Row) -> Cell:
    return EMPTY if row.verdict is None else Cell(ruling(row.verdict, row.n), "", row.verdict.mean)


def _probability(of: Callable[[Verdict], float | None]) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = None if row.verdict is None else of(row.verdict)
        return EMPTY if value is None else Cell(probability(value), "", value)

    return cell


def _needed(row: Row) -> Cell:
    needed = None if row.verdict is None else row.verdict.needed
    return EMPTY if needed is None else Cell(seeds(needed), "", needed)


VERDICT = Column("verdict", "points", "Test accuracy", _verdict)

COLUMNS = (
    Column("n", "", "", lambda row: Cell(str(row.n), "", row.n), "Finished runs, one per seed"),
    Column("last epoch", "%", "Test accuracy", lambda row: _spread(row.test_accuracy, 100, 2)),
    Column("published", "%", "Test accuracy", _published, "The value in the source"),
    VERDICT,
    Column(
        "p",
        "Holm",
        "Test accuracy",
        _probability(lambda verdict: verdict.p_adjusted),
        "Of no difference beyond the margin, two-sided, corrected over the arms",
    ),
    Column(
        "p equal",
        "Holm",
        "Test accuracy",
        _probability(lambda verdict: verdict.p_equal_adjusted),
        "Of a difference as large as the margin, corrected over the arms",
    ),
    Column("n needed", "seeds", "Test accuracy", _needed, "For the verdict, with a power of 80 %"),
    Column(
        "best validation",
        "%",
        "Test accuracy",
        lambda row: _spread(row.over(lambda o: o.best_validation_test_accuracy), 100, 2),
        "Read with the weights of the best validation epoch",
    ),
    Column("gap", "points", "Test accuracy", _gap, "Best-validation minus last epoch"),
    Column("NLL", "nats", "Calibration", lambda row: _spread(row.test_nll, 1, 4), "Test negative log-likelihood"),
    Column("ECE", "%", "Calibration", lambda row: _spread(row.ece, 100, 2), "Expected calibration error"),
    Column(
        "agreement",
        "%",
        "Fidelity to the teacher",
        lambda row: _spread(row.over(lambda o: o.agreement), 100, 2),
        "Test images on which student and teacher choose the same class",
    ),
    Column("KL", "nats", "Fidelity to the teacher", lambda row: _spread(row.over(lambda o: o.kl_to_teacher), 1, 4)),
    Column(
        "teachers",
        "",
        "Fidelity to the teacher",
        lambda row: Cell(str(row.teachers), "", row.teachers) if row.teachers else EMPTY,
    ),
    Column("parameters", "", "Size", _parameters, "At inference; in brackets those that the method adds"),
    Column(
        "mult-adds",
        "",
        "Size",
        lambda row: (
            EMPTY if row.first.mult_adds is None else Cell(amount(row.first.mult_adds), "", row.first.mult_adds)
        ),
    ),
    Column("views", "", "Cost per step", lambda row: _plain(row.first.views_per_step)),
    Column("forwards", "", "Cost per step", lambda row: _plain(row.first.forwards_per_step)),
    Column("backwards", "", "Cost per step", lambda row: _plain(row.first.backwards_per_step)),
    Column("training", "s", "Cost", lambda row: Cell(f"{row.seconds:.1f}", "", row.seconds), "Mean seconds of a run"),
)


def comparison(group: Group, arms: Sequence[Row]) -> Table:
    """The comparison of a group's arms; a column in which nothing was measured is left out."""
    cells = {column: [column.cell(row) for row in arms] for column in COLUMNS}
    kept = tuple(column for column in COLUMNS if any(cell != EMPTY for cell in cells[column]))
    lines = zip(*(cells[column] for column in kept), strict=True)
    explained = (replace(column, meaning=rule(group, arms)) if column is VERDICT else column for column in kept)
    return Table(tuple(explained), tuple(arms), tuple(lines))


@dataclass(frozen=True)
class Lines:
    """A table as it is written down: what it shows, its heads, and its cells line by line.

    Heads and first cells may hold names of users, and are not escaped; `across` says that first cells are heads too.
    """

    title: str
    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    across: bool = False


def written(group: Group, arms: Sequence[Row]) -> tuple[Lines, ...]:
    """The tables of a group: the comparison, the values per seed, and the grid where there is one."""
    found = grid(arms)
    tables = (_comparison(group, arms), _seeds(arms))
    return tables if found is None else (*tables, _grid(found))


def note(group: Group, arms: Sequence[Row]) -> str:
    """What has to stand below the comparison."""
    text = "Mean ± sample standard deviation over seeds; test accuracy is that of the last epoch."
    return f"{text} {rule(group, arms)}".rstrip()


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
        escaped(summary(table)),
        "",
    ]
    if group.command:
        lines += [f"Command: `{group.command}`  "]
    lines += [f"Environment: {'; '.join(environments(group))}", ""]
    compared, *others = written(group, table)
    lines += [*markdown(compared), "", escaped(note(group, table))]
    for other in others:
        lines += ["", f"## {other.title}", "", *markdown(other)]
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


def _comparison(group: Group, arms: Sequence[Row]) -> Lines:
    """The comparison with n beside every accuracy; costs that seldom matter are left to the page."""
    table = comparison(group, arms)
    places = [i for i, column in enumerate(table.columns) if column.family != "Cost per step" and column.title != "n"]
    heads = ["arm"]
    for i in places:
        column = table.columns[i]
        title = "test accuracy" if column.title == "last epoch" else column.title
        heads.append(f"{title}, {column.unit}" if column.unit else title)
    lines: list[tuple[str, ...]] = []
    for row, cells in zip(table.arms, table.cells, strict=True):
        counted = f"{measured(row.test_accuracy)} (n = {row.n})"
        texts = [counted if table.columns[i].title == "last epoch" else _text(cells[i]) for i in places]
        lines.append((row.arm, *texts))
    return Lines("Comparison", tuple(heads), tuple(lines))


def _text(cell: Cell) -> str:
    return f"{cell.text} ± {cell.spread}" if cell.spread else cell.text


def _seeds(arms: Sequence[Row]) -> Lines:
    numbers = sorted({seed for row in arms for seed in row.seeds})
    lines: list[tuple[str, ...]] = []
    for row in arms:
        known = dict(zip(row.seeds, row.test_accuracy.values, strict=True))
        lines.append((row.arm, *(f"{100 * known[seed]:.2f}" if seed in known else DASH for seed in numbers)))
    return Lines("Test accuracy per seed, %", ("arm", *(str(seed) for seed in numbers)), tuple(lines))


def _grid(found: Grid) -> Lines:
    down, across = found.values
    lines = [(label(value), *(grid_text(found, value, other) for other in across)) for value in down]
    heads = (f"{found.names[0]} ↓ {found.names[1]} →", *(label(value) for value in across))
    return Lines(f"Test accuracy over {found.names[0]} and {found.names[1]}, %", heads, tuple(lines), across=True)


def grid_text(found: Grid, down: Any, across: Any) -> str:
    """A cell of the grid: the arm's accuracy in percent, or a dash where no arm has the pair."""
    row = found.cells.get((down, across))
    return DASH if row is None else measured(row.test_accuracy)


def label(value: Any) -> str:
    """A setting's value: 0.5, 4, cosine."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def markdown(table: Lines) -> list[str]:
    """A table in Markdown: the first column to the left, the others to the right."""
    rule = "|".join(["---", *("---:" for _ in table.heads[1:])])
    mark = "**" if table.across else ""
    lines = [" | ".join([f"{mark}{escaped(first)}{mark}", *cells]) for first, *cells in table.cells]
    return [
        f"| {' | '.join(escaped(head) for head in table.heads)} |",
        f"|{rule}|",
        *(f"| {line} |" for line in lines),
    ]
