"""The comparison as a table: its columns, and what stands in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from potstill.report.entry import Group
from potstill.report.rows import Row, Spread
from potstill.report.verdict import Verdict
from potstill.report.words import amount, bare, interval, probability, rule, seeds, signed


@dataclass(frozen=True)
class Cell:
    """What stands in a table: text, its spread, the value to sort by (None: not measured), numbers beside."""

    text: str
    spread: str = ""
    value: float | str | None = None
    beside: str = ""

    @property
    def whole(self) -> str:
        """All of it in one text."""
        spread = f" ± {self.spread}" if self.spread else ""
        return f"{self.text}{spread} {self.beside}".rstrip()


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
    meaning: str


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
    found = row.verdict
    return EMPTY if found is None else Cell(found.word, "", found.mean, interval(found, row.n))


def _probability(of: Callable[[Verdict], float | None]) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = None if row.verdict is None else of(row.verdict)
        return EMPTY if value is None else Cell(probability(value), "", value)

    return cell


def _needed(row: Row) -> Cell:
    needed = None if row.verdict is None else row.verdict.needed
    return EMPTY if needed is None else Cell(seeds(needed), "", needed)


VERDICT = Column("verdict", "points", "Test accuracy", _verdict, "Against the first arm")

COLUMNS = (
    Column("n", "", "", lambda row: Cell(str(row.n), "", row.n), "Finished runs, one per seed"),
    Column(
        "last epoch",
        "%",
        "Test accuracy",
        lambda row: _spread(row.test_accuracy, 100, 2),
        "On the test split, after the last epoch",
    ),
    Column("published", "%", "Test accuracy", _published, "The value in the source"),
    VERDICT,
    Column(
        "p",
        "Holm",
        "Test accuracy",
        _probability(lambda verdict: verdict.p_adjusted),
        "The p value of no difference beyond the margin, two-sided, corrected over the arms",
    ),
    Column(
        "p equal",
        "Holm",
        "Test accuracy",
        _probability(lambda verdict: verdict.p_equal_adjusted),
        "The p value of a difference as large as the margin, corrected over the arms",
    ),
    Column(
        "n needed",
        "seeds",
        "Test accuracy",
        _needed,
        "Seeds for the verdict, with a power of 80 %, if mean and spread are the true ones",
    ),
    Column(
        "best validation",
        "%",
        "Test accuracy",
        lambda row: _spread(row.over(lambda o: o.best_validation_test_accuracy), 100, 2),
        "On the test split, with the weights of the best validation epoch",
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
    Column(
        "KL",
        "nats",
        "Fidelity to the teacher",
        lambda row: _spread(row.over(lambda o: o.kl_to_teacher), 1, 4),
        "Divergence of the student from the teacher, mean over the test images",
    ),
    Column(
        "teachers",
        "",
        "Fidelity to the teacher",
        lambda row: Cell(str(row.teachers), "", row.teachers) if row.teachers else EMPTY,
        "Distinct teachers behind the runs of the arm",
    ),
    Column("parameters", "", "Size", _parameters, "At inference; in brackets those that the method adds"),
    Column(
        "mult-adds",
        "",
        "Size",
        lambda row: (
            EMPTY if row.first.mult_adds is None else Cell(amount(row.first.mult_adds), "", row.first.mult_adds)
        ),
        "Multiplications with an addition, for one image at inference",
    ),
    Column(
        "views",
        "",
        "Cost per step",
        lambda row: _plain(row.first.views_per_step),
        "Images shown for each image drawn",
    ),
    Column(
        "forwards",
        "",
        "Cost per step",
        lambda row: _plain(row.first.forwards_per_step),
        "Passes of the student",
    ),
    Column(
        "backwards",
        "",
        "Cost per step",
        lambda row: _plain(row.first.backwards_per_step),
        "Passes back through it",
    ),
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

    Heads and cells may hold names of users, and are not escaped.

    Attributes:
        across: First cells are heads too.
        words: How many columns are words, which stand to the left.
        depths: How far each line is moved in; empty for none.
        note: What stands below.
    """

    title: str
    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    across: bool = False
    words: int = 1
    depths: tuple[int, ...] = ()
    note: str = ""


def label(value: Any) -> str:
    """A setting's value: 0.5, 4, cosine, True."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def labels(values: Sequence[Any]) -> list[str]:
    """The values of one setting; with all their digits where six would make two of them one."""
    short = [label(value) for value in values]
    return [repr(value) if short.count(text) > 1 else text for value, text in zip(values, short, strict=True)]
