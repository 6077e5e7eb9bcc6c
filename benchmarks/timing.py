"""Measuring alternatives in turn, so that whatever else the machine does meets them all alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.claims import Claim


@dataclass(frozen=True)
class Row:
    """One alternative, measured several times.

    Attributes:
        name: What was measured.
        values: In the unit of the table, in the order of measuring.
    """

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What half of the values lie between."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = quantiles(self.values, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Table:
    """Alternatives side by side.

    Attributes:
        title: What a reader needs to know of the conditions.
        unit: Of every value.
        rows: The first is what the ratios of the others refer to.
        claims: What is said of their ratios.
    """

    title: str
    unit: str
    rows: tuple[Row, ...]
    claims: "tuple[Claim, ...]" = ()

    def ratio(self, row: Row) -> float:
        """A row's median over the first row's."""
        return row.median / self.rows[0].median

    def plain(self) -> dict[str, object]:
        """As JSON keeps it: every single value, and what follows from them."""
        return {
            "title": self.title,
            "unit": self.unit,
            "rows": [
                {
                    "name": row.name,
                    "median": row.median,
                    "quartiles": list(row.quartiles),
                    "ratio": self.ratio(row),
                    "values": list(row.values),
                }
                for row in self.rows
            ],
            **({"claims": [claim.plain() for claim in self.claims]} if self.claims else {}),
        }

    def text(self) -> str:
        """As a person reads it."""
        head = ("", self.unit, "quartiles", "n", "ratio")
        lines = [head] + [
            (
                row.name,
                f"{row.median:.4g}",
                f"{row.quartiles[0]:.4g} … {row.quartiles[1]:.4g}",
                str(len(row.values)),
                f"{self.ratio(row):.3g}",
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        cells = [
            [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(x, widths, strict=True))]
            for x in lines
        ]
        table = ("  " + "  ".join(line) for line in cells)
        return "\n".join([self.title, *table, *(f"  {claim.text()}" for claim in self.claims)])


def in_turn(alternatives: Mapping[str, Callable[[], float]], repetitions: int) -> tuple[Row, ...]:
    """Every alternative once per repetition, one after the other, after a first round that only warms up.

    Args:
        alternatives: What measures once and answers the value, by name.
        repetitions: Rounds that count.
    """
    values: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(repetitions + 1):
        for name, measure in alternatives.items():
            value = measure()
            if turn:
                values[name].append(value)
    return tuple(Row(name, tuple(found)) for name, found in values.items())
