"""How many seeds a claim needs, from the spread between the seeds of records."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from potstill.errors import UserError
from potstill.report.entry import Group
from potstill.report.power import LIMIT, POWER, seeds_needed
from potstill.report.rows import Row, paired, reference, rows, students
from potstill.report.tables import DASH
from potstill.report.verdict import LEVEL
from potstill.report.words import bare, seeds

POOLED = "pooled"
"""What stands for the arms of a comparison together."""


@dataclass(frozen=True)
class Aim:
    """The claim that is planned for: a true difference, as a fraction, and the chance of finding it."""

    difference: float
    power: float = POWER

    def __post_init__(self) -> None:
        if not 0 < self.difference < 1:
            given = 100 * self.difference
            raise UserError(f"--difference is {given:g}; expected percentage points, above 0 and below 100.")
        if not 0 < self.power < 1:
            raise UserError(f"--power is {self.power:g}; expected a fraction between 0 and 1, such as 0.8.")


@dataclass(frozen=True)
class Spreads:
    """How far accuracies lie apart from seed to seed, as standard deviations and fractions; None where unknown.

    Attributes:
        own: Of an arm's accuracy.
        own_df: Degrees of freedom behind it: seeds minus one, added up over arms.
        paired: Of its difference to the reference, seed by seed.
        paired_df: Degrees of freedom behind that; 0 where it was derived from `own`, as of two arms that have nothing
            in common.
    """

    own: float | None
    own_df: int
    paired: float | None
    paired_df: int


@dataclass(frozen=True)
class Need:
    """Seeds that one arm, the arms of a comparison, or those of all comparisons need.

    Attributes:
        recipe: The comparison; empty where it is none, or all.
        arm: The arm, or "pooled".
        n: Finished runs behind it.
        spreads: How far they lie apart.
        verdict: What is claimed: better, or equivalent where the difference lies within the margin of the comparison.
        alone: Seeds needed by one arm that is compared alone; None for a reference.
        together: Seeds needed by each of the comparison's arms for Holm's first step; None for a reference.
        arms: How many arms are compared with a reference.
    """

    recipe: str
    arm: str
    n: int
    spreads: Spreads
    verdict: str
    alone: int | None
    together: int | None
    arms: int


def independent(own: float | None, df: int) -> Spreads:
    """The spreads of arms whose seeds have nothing in common."""
    return Spreads(own, df, None if own is None else math.sqrt(2) * own, 0)


def assumed(aim: Aim, spread: float) -> Need:
    """What arms of a given spread need, a fraction, if their seeds have nothing in common."""
    if not 0 < spread < 1:
        raise UserError(f"--spread is {100 * spread:g}; expected percentage points, above 0 and below 100.")
    return _need(aim, "", "given", 0, independent(spread, 0), 0.0, 1)


def recorded(aim: Aim, groups: Sequence[Group]) -> list[Need]:
    """What arms need, one by one, pooled over each comparison, and, where there are several, over all of them.

    Raises:
        UserError: no arm has two seeds, or the difference is just the margin of a comparison.
    """
    needs: list[Need] = []
    pooled: list[Need] = []
    margins: set[float] = set()
    for group in groups:
        arms, together = _group(aim, group)
        needs += arms
        if together.spreads.paired is not None:
            needs.append(together)
            pooled.append(together)
            margins.add(group.margin or 0.0)
    if not pooled:
        raise UserError("No arm of these runs has two seeds, so their spread is unknown; give it with --spread.")
    # Under unlike margins the same difference is another claim in every recipe.
    if len(pooled) > 1 and len(margins) == 1:
        spreads = _pool(need.spreads for need in pooled)
        needs.append(_need(aim, "", POOLED, sum(need.n for need in pooled), spreads, margins.pop(), 1))
    return needs


def _group(aim: Aim, group: Group) -> tuple[list[Need], Need]:
    """The arms of one comparison, and the same pooled."""
    margin = group.margin or 0.0
    if margin and math.isclose(aim.difference, margin):
        raise UserError(
            f"--difference is {100 * aim.difference:g}, the margin of {group.recipe}, and no number of seeds tells the "
            "two apart; give a difference above it, to be shown to exceed it, or below, to be shown to lie within."
        )
    table = rows(group)
    arms = students(table)
    against = reference(group, table) if len(arms) > 1 else None
    count = 1 if against is None else len(arms) - 1
    known = {row.arm: _spreads(row, against) for row in arms}
    needs = [_need(aim, group.recipe, row.arm, row.n, known[row.arm], margin, count) for row in arms]
    runs = sum(need.n for need in needs)
    return needs, _need(aim, group.recipe, POOLED, runs, _pool(known.values()), margin, count)


def _spreads(row: Row, reference: Row | None) -> Spreads:
    own, df = row.test_accuracy.std, row.n - 1
    if reference is None:
        return independent(own, df)
    if row is reference:
        return Spreads(own, df, None, 0)
    pairs = paired(row, reference)
    return Spreads(own, df, None if pairs is None else pairs.std, 0 if pairs is None else len(pairs.values) - 1)


def _pool(known: Iterable[Spreads]) -> Spreads:
    """The root of the mean variance, weighted by degrees of freedom."""
    spreads = list(known)
    own, own_df = _mean([(found.own, found.own_df) for found in spreads])
    pairs, pairs_df = _mean([(found.paired, found.paired_df) for found in spreads])
    return independent(own, own_df) if pairs is None else Spreads(own, own_df, pairs, pairs_df)


def _mean(found: Sequence[tuple[float | None, int]]) -> tuple[float | None, int]:
    df = sum(weight for std, weight in found if std is not None)
    total = sum(weight * std**2 for std, weight in found if std is not None)
    return (math.sqrt(total / df), df) if df else (None, 0)


def _need(aim: Aim, recipe: str, arm: str, n: int, spreads: Spreads, margin: float, arms: int) -> Need:
    verdict = "equivalent" if aim.difference < margin else "better"
    alone = together = None
    if spreads.paired is not None:
        alone, together = (
            seeds_needed(aim.difference, spreads.paired, margin, alpha=(1 - LEVEL) / share, power=aim.power)
            for share in (1, arms)
        )
    return Need(recipe, arm, n, spreads, verdict, alone, together, arms)


def lines(needs: Sequence[Need]) -> tuple[list[str], list[list[str]]]:
    """The needs as a table: heads, and a line of cells for each; what would say nothing is left out."""
    columns = {
        "recipe": [need.recipe or DASH for need in needs],
        "arm": [need.arm for need in needs],
        "runs": [str(need.n) if need.n else DASH for need in needs],
        "spread, points": [_points(need.spreads.own) for need in needs],
        "of differences": [_differences(need.spreads) for need in needs],
        "verdict": [need.verdict for need in needs] if any(need.verdict != "better" for need in needs) else [DASH],
        "seeds alone": [DASH if need.alone is None else seeds(need.alone) for need in needs],
        "seeds, Holm": [_together(need) for need in needs],
    }
    kept = {head: cells for head, cells in columns.items() if set(cells) != {DASH}}
    return list(kept), [list(line) for line in zip(*kept.values(), strict=True)]


def _points(std: float | None) -> str:
    return DASH if std is None else bare(100 * std, 2)


def _differences(spreads: Spreads) -> str:
    derived = spreads.paired is not None and not spreads.paired_df
    return f"{_points(spreads.paired)}{' (√2 ×)' if derived else ''}"


def _together(need: Need) -> str:
    return DASH if need.together is None or need.arms == 1 else f"{seeds(need.together)} ({need.arms} arms)"


def sentence(aim: Aim, needs: Sequence[Need]) -> str:
    """What follows for the last of the needs, if it stands for all, in one sentence."""
    last = needs[-1]
    if last.recipe and any(need.recipe != last.recipe for need in needs):
        return "The recipes have unlike margins, so that each needs a number of its own: that of its pooled line."
    assert last.alone is not None
    assert last.spreads.paired is not None
    points = f"{100 * aim.difference:g}"
    claim = f"a difference of {points} {'point' if points == '1' else 'points'}"
    if last.verdict == "equivalent":
        claim += " to lie within the margin"
    together = "" if last.arms == 1 else f", and {_many(last.together)} where {last.arms} arms are corrected together"
    basis = "from seed to seed" if last.spreads.paired_df else "if their seeds have nothing in common"
    return (
        f"To show {claim} with {100 * aim.power:g} % power, a paired t test at {100 * (1 - LEVEL):g} % needs "
        f"{_many(last.alone)} of each arm{together}: differences spread by {bare(100 * last.spreads.paired, 2)} points "
        f"{basis}."
    )


def _many(needed: int | None) -> str:
    return f"{'more than 1,000' if needed is None or needed > LIMIT else needed} seeds"
