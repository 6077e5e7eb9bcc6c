"""The tables of a comparison as they are written down: arms, changes, seeds and settings."""

from collections.abc import Sequence
from typing import Any

from potstill.report import ladder
from potstill.report.entry import Group
from potstill.report.rows import Grid, Row, grid
from potstill.report.tables import DASH, Lines, comparison, labels
from potstill.report.words import measured, rule


def written(group: Group, arms: Sequence[Row]) -> tuple[Lines, ...]:
    """The tables of a group: comparison; ladder, controls and grid where there are any; values per seed."""
    changes = [ladder.lines(kind, rungs) for kind, rungs in ladder.ladders(arms, group.margin)]
    found = grid(arms)
    settings = () if found is None else (settings_table(found),)
    return (_comparison(group, arms), *changes, seeds_table(arms), *settings)


def note(group: Group, arms: Sequence[Row]) -> str:
    """What has to stand below the comparison."""
    text = "Mean ± sample standard deviation over seeds; test accuracy is that of the last epoch."
    return f"{text} {rule(group, arms)}".rstrip()


def _comparison(group: Group, arms: Sequence[Row]) -> Lines:
    """The comparison with n beside every accuracy; costs of a step that are the same for all are left to the page."""
    table = comparison(group, arms)
    unlike = [len({cells[i] for cells in table.cells}) > 1 for i in range(len(table.columns))]
    places = [
        i
        for i, column in enumerate(table.columns)
        if column.title != "n" and (unlike[i] or column.family != "Cost per step")
    ]
    heads = ["arm"]
    for i in places:
        column = table.columns[i]
        title = "test accuracy" if column.title == "last epoch" else column.title
        heads.append(f"{title}, {column.unit}" if column.unit else title)
    lines: list[tuple[str, ...]] = []
    for row, cells in zip(table.arms, table.cells, strict=True):
        counted = f"{measured(row.test_accuracy)} (n = {row.n})"
        texts = [counted if table.columns[i].title == "last epoch" else cells[i].whole for i in places]
        lines.append((row.arm, *texts))
    return Lines("Comparison", tuple(heads), tuple(lines))


def seeds_table(arms: Sequence[Row]) -> Lines:
    """Test accuracy of every run."""
    numbers = sorted({seed for row in arms for seed in row.seeds})
    lines: list[tuple[str, ...]] = []
    for row in arms:
        known = dict(zip(row.seeds, row.test_accuracy.values, strict=True))
        lines.append((row.arm, *(f"{100 * known[seed]:.2f}" if seed in known else DASH for seed in numbers)))
    return Lines("Test accuracy per seed, %", ("arm", *(str(seed) for seed in numbers)), tuple(lines))


def settings_table(found: Grid) -> Lines:
    """Test accuracy over two settings."""
    down, across = found.values
    lines = [
        (head, *(_mean(found, value, other) for other in across))
        for head, value in zip(labels(down), down, strict=True)
    ]
    heads = (f"{found.names[0]} ↓ {found.names[1]} →", *labels(across))
    return Lines(f"Test accuracy over {found.names[0]} and {found.names[1]}, %", heads, tuple(lines), across=True)


def _mean(found: Grid, down: Any, across: Any) -> str:
    """A cell of the grid: the arm's accuracy in percent, or a dash where no arm has the pair."""
    row = found.cells.get((down, across))
    return DASH if row is None else measured(row.test_accuracy)
