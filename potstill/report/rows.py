"""Rows of a comparison: the runs of one arm as means and spreads over seeds."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from potstill.record import Json
from potstill.report.entry import Entry, Group
from potstill.report.outcome import Outcome
from potstill.report.verdict import Verdict, resolution, verdicts


@dataclass(frozen=True)
class Spread:
    """One measure over the seeds of an arm; `std` is the sample's (n - 1), None where n is 1."""

    mean: float
    std: float | None
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, tuple(values))


@dataclass(frozen=True)
class Row:
    """One arm: its finished runs, in order of their seeds, and the verdict on it where there is one."""

    arm: str
    role: str
    published: float | None
    settings: Json
    entries: tuple[Entry, ...]
    verdict: Verdict | None = None
    after: str | None = None
    change: str = ""

    @property
    def n(self) -> int:
        """How many finished runs stand behind the row."""
        return len(self.entries)

    @property
    def first(self) -> Outcome:
        """The outcome that numbers equal for every run of an arm (parameters, cost) are read from."""
        return self.entries[0].outcome

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of every measure's values."""
        return tuple(entry.outcome.seed for entry in self.entries)

    @property
    def teachers(self) -> int:
        """How many distinct teachers stand behind the row."""
        return len({entry.outcome.teacher for entry in self.entries} - {None})

    @cached_property
    def test_accuracy(self) -> Spread:
        """Test accuracy of the last epoch, as a fraction."""
        return spread([entry.outcome.test_accuracy for entry in self.entries])

    @property
    def test_nll(self) -> Spread:
        """Test negative log-likelihood, in nats: the loss that is the same for every arm."""
        return spread([entry.outcome.test_nll for entry in self.entries])

    @property
    def ece(self) -> Spread:
        """Expected calibration error on the test split, as a fraction."""
        return spread([entry.outcome.ece for entry in self.entries])

    @property
    def seconds(self) -> float:
        """Mean training time of a run."""
        return statistics.fmean(entry.outcome.seconds for entry in self.entries)

    def over(self, measure: Callable[[Outcome], float | None]) -> Spread | None:
        """A measure that not every run has; None unless all runs of the arm have it."""
        values = [measure(entry.outcome) for entry in self.entries]
        known = [value for value in values if value is not None]
        return spread(known) if len(known) == len(values) else None


def rows(group: Group) -> tuple[Row, ...]:
    """The arms of a group in the sweep's order, each with its verdict against the first."""
    arms: dict[str, list[Entry]] = {}
    for entry in group.entries:
        arms.setdefault(entry.arm, []).append(entry)
    table = tuple(
        Row(
            arm,
            entries[0].role,
            entries[0].published,
            entries[0].settings,
            tuple(sorted(entries, key=lambda entry: entry.outcome.seed)),
            after=entries[0].after,
            change=entries[0].change,
        )
        for arm, entries in arms.items()
    )
    against = reference(group, table)
    return table if against is None or group.margin is None else _judged(table, against, group.margin)


def _judged(table: Sequence[Row], against: Row, margin: float) -> tuple[Row, ...]:
    """The arms with their verdicts, decided together; the reference has none, nor have teachers and controls."""
    others = [row for row in students(table) if row is not against]
    differences = [pairs.values if (pairs := paired(row, against)) else () for row in others]
    found = verdicts(differences, margin, resolution=image(students(table)))
    decided = dict(zip([row.arm for row in others], found, strict=True))
    return tuple(replace(row, verdict=decided.get(row.arm)) for row in table)


def image(table: Sequence[Row]) -> float:
    """What one image of the test split is worth, as a fraction."""
    return resolution(value for row in table for value in row.test_accuracy.values)


def reference(group: Group, table: Sequence[Row]) -> Row | None:
    """The arm that the others are held against: the sweep's first; None where no run of it is finished, or no sweep."""
    return next((row for row in table if row.arm == group.reference), None)


def students(table: Sequence[Row]) -> tuple[Row, ...]:
    """The arms that are compared with each other: all but teachers and controls, unless there is nothing else."""
    return tuple(row for row in table if row.role not in ("teacher", "control")) or tuple(table)


def best(table: Sequence[Row]) -> Row:
    """The arm of highest mean test accuracy."""
    return max(table, key=lambda row: row.test_accuracy.mean)


def fallen(table: Sequence[Row]) -> tuple[Row, ...]:
    """The arms whose training failed: few, ten points and more below the others, which they would press together.

    They are the fewest, a quarter at most, without which the others' runs lie in a quarter of the range of all.
    """
    order = sorted(table, key=lambda row: row.test_accuracy.mean)
    values = [row.test_accuracy.values for row in order]
    for count in range(1, len(order) // 4 + 1):
        low, rest = (tuple(chain(*part)) for part in (values[:count], values[count:]))
        near = max(rest) - min(rest) <= (max(rest) - min(low)) / 4
        if near and min(rest) - max(low) >= 0.1:
            return tuple(row for row in table if row in order[:count])
    return ()


def chosen(table: Sequence[Row], limit: int) -> tuple[Row, ...]:
    """At most `limit` arms, in their order: the first, which is the baseline, and the best of the others."""
    others = sorted(table[1:], key=lambda row: -row.test_accuracy.mean)[: limit - 1]
    keep = {row.arm for row in (*table[:1], *others)}
    return tuple(row for row in table if row.arm in keep)


def paired(row: Row, baseline: Row) -> Spread | None:
    """Difference in test accuracy, seed by seed, over the seeds that both arms have; None without any."""
    theirs = dict(zip(baseline.seeds, baseline.test_accuracy.values, strict=True))
    ours = zip(row.seeds, row.test_accuracy.values, strict=True)
    differences = [accuracy - theirs[seed] for seed, accuracy in ours if seed in theirs]
    return spread(differences) if differences else None


@dataclass(frozen=True)
class Grid:
    """Arms over two settings; a cell without an arm is missing from `cells`."""

    names: tuple[str, str]
    values: tuple[tuple[Any, ...], tuple[Any, ...]]
    cells: dict[tuple[Any, Any], Row]


def grid(table: Sequence[Row]) -> Grid | None:
    """The arms with settings, where exactly two settings vary and each pair of values is one arm's."""
    arms = [row for row in students(table) if row.settings]
    values: dict[str, list[Any]] = {}
    for row in arms:
        for name, value in row.settings.items():
            seen = values.setdefault(name, [])
            if isinstance(value, int | float | str) and value not in seen:
                seen.append(value)
    varied = {name: _ordered(seen) for name, seen in values.items() if len(seen) > 1}
    if len(varied) != 2:
        return None
    first, second = varied
    placed = [row for row in arms if first in row.settings and second in row.settings]
    cells = {(row.settings[first], row.settings[second]): row for row in placed}
    if len(cells) != len(placed):
        return None
    return Grid((first, second), (varied[first], varied[second]), cells)


def _ordered(values: Sequence[Any]) -> tuple[Any, ...]:
    """By size where all are numbers, else as first met."""
    return tuple(sorted(values) if all(isinstance(value, int | float) for value in values) else values)
