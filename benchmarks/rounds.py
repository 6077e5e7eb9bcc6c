"""Measuring alternatives in turn, so that whatever else the machine does meets them all alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles


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
