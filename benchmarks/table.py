"""Alternatives side by side, as a person reads them and as JSON keeps them."""

from dataclasses import dataclass

from benchmarks.claims import Claim
from benchmarks.rounds import Row


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
