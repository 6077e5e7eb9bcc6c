"""A table of an analysis: a head per arm, and lines that each begin with a name."""

from dataclasses import dataclass

from potstill.report.tables import Cell


@dataclass(frozen=True)
class Sheet:
    """A table ready to be set.

    Attributes:
        stub: What the first column holds.
        heads: The other columns.
        lines: A name and a cell per column.
        caption: What the numbers are.
    """

    stub: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    caption: str

    @property
    def widths(self) -> tuple[int, ...]:
        """Room for each column's spread, in characters; 0 without any."""
        columns = zip(*(cells for _, cells in self.lines), strict=True)
        longest = [max(len(cell.spread) for cell in column) for column in columns]
        return tuple(length + 2 if length else 0 for length in longest)
