"""Arms that each differ in one thing from another arm, with the verdict on that thing alone.

Those that the sweep names stand on the ablation ladder; those that differ in a teacher who knows nothing are controls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from potstill.report.figures import Difference, Marks, against
from potstill.report.plate import Plate
from potstill.report.power import FEWEST
from potstill.report.rows import Row, image, paired
from potstill.report.tables import DASH, Lines
from potstill.report.verdict import Verdict, verdicts
from potstill.report.words import interval, measured, probability, seeds


class Kind(NamedTuple):
    """What a ladder is about, in words.

    Attributes:
        anchor: In addresses and file names.
        title: Of the section.
        table: Of the table.
        change: The head of what changes.
        start: What an arm has that changes nothing.
        many: What its rows are, counted.
        plate: Of the figure.
        note: How to read it.
    """

    anchor: str
    title: str
    table: str
    change: str
    start: str
    many: str
    plate: str
    note: str


ABLATION = Kind(
    "ladder",
    "Ablation ladder",
    "Ablation ladder, one change per row",
    "change",
    "start",
    "changes",
    "What each change gives",
    "Each row changes one thing in the arm that it is compared with.",
)
CONTROLS = Kind(
    "controls",
    "Controls",
    "Controls, each in place of an arm's teacher",
    "teacher",
    "right teacher",
    "controls",
    "What a control gives in place of the teacher",
    "Each row has another teacher than the arm that it is compared with, and nothing else: where it is worse, what the "
    "right teacher knows of the images counts.",
)


@dataclass(frozen=True)
class Rung:
    """An arm of the ladder.

    Attributes:
        row: The arm.
        before: The one that it changes; None where the ladder begins, or that arm has no finished run.
        depth: How many changes lie below it.
        values: Differences in test accuracy, seed by seed over the seeds of both, as fractions.
        verdict: The verdict on them.
    """

    row: Row
    before: Row | None
    depth: int
    values: tuple[float, ...] = ()
    verdict: Verdict | None = None


def ladders(table: Sequence[Row], margin: float | None) -> tuple[tuple[Kind, tuple[Rung, ...]], ...]:
    """The ablation ladder and the controls of a comparison, as far as there are any."""
    found = ((ABLATION, ladder(table, margin)), (CONTROLS, controls(table, margin)))
    return tuple((kind, rungs) for kind, rungs in found if rungs)


def ladder(table: Sequence[Row], margin: float | None) -> tuple[Rung, ...]:
    """The rungs, each below the one that it changes; nothing where no arm names another.

    The verdicts on all rungs are decided together (Holm), apart from those against the first arm.
    """
    return _climbed([row for row in table if row.role != "control"], margin)


def controls(table: Sequence[Row], margin: float | None) -> tuple[Rung, ...]:
    """The controls, each below the arm whose teacher it changes; their verdicts are decided together."""
    found = [row for row in table if row.role == "control"]
    named = {row.after for row in found}
    arms = [row if row in found else replace(row, after=None, change="") for row in table]
    return _climbed([row for row in arms if row.role == "control" or row.arm in named], margin)


def _climbed(table: Sequence[Row], margin: float | None) -> tuple[Rung, ...]:
    arms = {row.arm: row for row in table}
    named = {row.after for row in table if row.after is not None}
    if not named:
        return ()
    found: list[Rung] = []

    def climb(row: Row, depth: int) -> None:
        # A file may say that two arms change each other: each is shown once.
        if any(rung.row is row for rung in found):
            return
        before = None if row.after is None else arms.get(row.after)
        difference = None if before is None else paired(row, before)
        found.append(Rung(row, before, depth, () if difference is None else difference.values))
        for other in table:
            if other.after == row.arm:
                climb(other, depth + 1)

    for row in table:
        if (row.after is None and row.arm in named) or (row.after is not None and row.after not in arms):
            climb(row, 0)
    for row in table:
        if row.after is not None:
            climb(row, 1)
    return tuple(found) if margin is None else _judged(found, margin)


def _judged(found: Sequence[Rung], margin: float) -> tuple[Rung, ...]:
    steps = [rung for rung in found if rung.before is not None]
    words = verdicts([step.values for step in steps], margin, resolution=image([rung.row for rung in found]))
    decided = dict(zip([step.row.arm for step in steps], words, strict=True))
    return tuple(replace(rung, verdict=decided.get(rung.row.arm)) for rung in found)


def plate(name: str, kind: Kind, rungs: Sequence[Rung], marks: Marks) -> Plate | None:
    """What each change gives; None without a verdict."""
    judged = [
        Difference(
            rung.row.arm if kind is CONTROLS else rung.row.change, marks[rung.row.arm], rung.values, rung.verdict
        )
        for rung in rungs
        if rung.verdict is not None and rung.verdict.n >= FEWEST
    ]
    return against(f"{name}-{kind.anchor}", kind.plate, judged) if judged else None


def lines(kind: Kind, rungs: Sequence[Rung]) -> Lines:
    """A ladder as a table."""
    heads = (
        kind.change, "arm", "compared with", "verdict", "test accuracy, %", "difference, points", "p, Holm", "n needed",
    )  # fmt: skip
    cells = tuple(_line(kind, rung) for rung in rungs)
    kept = [place for place in range(len(heads)) if place in (0, 1, 2, 4) or any(line[place] != DASH for line in cells)]
    return Lines(
        kind.table,
        tuple(heads[place] for place in kept),
        tuple(tuple(line[place] for place in kept) for line in cells),
        words=4 if 3 in kept else 3,
        depths=tuple(rung.depth for rung in rungs),
        note=note(kind, rungs),
    )


def _line(kind: Kind, rung: Rung) -> tuple[str, ...]:
    found = rung.verdict
    return (
        rung.row.change or kind.start,
        rung.row.arm,
        rung.row.after or DASH,
        DASH if found is None else found.word,
        measured(rung.row.test_accuracy),
        (DASH if found is None else interval(found, rung.row.n)) or DASH,
        DASH if found is None or found.p_adjusted is None else probability(found.p_adjusted),
        DASH if found is None or found.needed is None else seeds(found.needed),
    )


def note(kind: Kind, rungs: Sequence[Rung]) -> str:
    """How to read it."""
    steps = [rung for rung in rungs if rung.verdict is not None]
    if not steps:
        return kind.note
    return f"{kind.note} Verdicts as in the comparison, over the {len(steps)} {kind.many} together."
