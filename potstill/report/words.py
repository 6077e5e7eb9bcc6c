"""Numbers and facts as a reader meets them: in percent, with their spread, in one sentence."""

from collections.abc import Sequence

from potstill.report.entry import Group
from potstill.report.power import FEWEST, LIMIT, POWER
from potstill.report.rows import Row, Spread, best, paired, reference, students
from potstill.report.verdict import LEVEL, Verdict


def bare(value: float, places: int) -> str:
    """A spread, without the zero that stands before every such point: .12."""
    text = f"{value:.{places}f}"
    return text[1:] if text.startswith("0.") else text


def signed(value: float, places: int) -> str:
    """A difference with its sign, a true minus among them."""
    text = f"{value:+.{places}f}"
    # What is printed as nothing is not less than nothing.
    return text.replace("-", "\N{MINUS SIGN}" if float(text) else "+")


def measured(value: Spread, scale: float = 100, places: int = 2) -> str:
    """Mean ± std; the mean alone where a single run leaves the spread unknown."""
    mean = f"{value.mean * scale:.{places}f}"
    return mean if value.std is None else f"{mean} ± {bare(value.std * scale, places)}"


def accuracy(row: Row) -> str:
    """Test accuracy in a sentence: 94.56 ± .12 % (n = 5)."""
    return f"{measured(row.test_accuracy)} % (n = {row.n})"


def undrawn(table: Sequence[Row]) -> str:
    """The sentence of a caption on arms that a figure leaves out; empty for none."""
    return f" Not drawn: {'; '.join(f'{row.arm} {accuracy(row)}' for row in table)}." if table else ""


def amount(value: float) -> str:
    """A large count in its unit: 12.05 M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.2f} {name}"
    return f"{value:g}"


def summary(group: Group, table: Sequence[Row]) -> str:
    """What the comparison found: the best arm against the first, and the verdicts where there are any."""
    arms = students(table)
    # Where the sweep's first arm has no finished run, the first that has one is not called the first.
    baseline = reference(group, table) if group.reference is not None else arms[0]
    top = best(arms)
    if len(arms) == 1:
        return f"{top.arm} reaches {accuracy(top)} test accuracy."
    lead = f"Of {len(arms)} arms, {top.arm} has the highest mean test accuracy: {accuracy(top)}."
    if baseline is None or baseline is top:
        name, against = "The next is", best([row for row in arms if row is not top])
    else:
        name, against = "The first arm is", baseline
    sentence = f"{lead} {name} {against.arm} with {accuracy(against)}; {_difference(top, against)}."
    return sentence + _single(top, against) + _decided(group, arms)


def _decided(group: Group, arms: Sequence[Row]) -> str:
    """The verdicts in a sentence; empty where three seeds have not been run."""
    found = [(row.arm, row.verdict.word) for row in arms if row.verdict is not None and row.verdict.n >= FEWEST]
    words: list[str] = []
    for word in ("better", "worse", "equivalent", "undecided"):
        names = [arm for arm, verdict in found if verdict == word]
        if names:
            of = f" ({'; '.join(names)})" if len(names) <= 2 and len(found) > 1 and word != "undecided" else ""
            words.append(f"{len(names)} {word}{of}" if len(found) > 1 else word)
    return f" Verdict against {group.reference}: {', '.join(words)}." if words else ""


def _difference(top: Row, against: Row) -> str:
    pairs = paired(top, against)
    if pairs is None:
        points = signed(100 * (top.test_accuracy.mean - against.test_accuracy.mean), 2)
        return f"the difference of the means is {points} points (no seed in common)"
    spread = "" if pairs.std is None else f" ± {bare(100 * pairs.std, 2)}"
    n = len(pairs.values)
    points = f"{signed(100 * pairs.mean, 2)}{spread} points"
    return f"the mean difference over the {n} {'seed' if n == 1 else 'seeds'} of both is {points}"


def _single(top: Row, against: Row) -> str:
    if min(top.n, against.n) > 1:
        return ""
    return (
        " A single run says nothing about the spread between seeds; potstill compare, given two run folders, tests "
        "their networks on the test images."
    )


def ruling(found: Verdict, n: int) -> str:
    """A verdict in a cell, in points: better +1.23 [+0.40, +2.06]; with its pairs where they are not n."""
    return f"{found.word} {interval(found, n)}".rstrip()


def interval(found: Verdict, n: int) -> str:
    """The numbers of a verdict, in points: +1.23 [+0.40, +2.06].

    Too few pairs to decide by leave the word alone: their interval would only look like a finding. An end of the
    interval has as many digits as it takes to lie, as it is printed, on its own side of the margin.
    """
    pairs = "" if found.n == n else f" (n = {found.n})"
    if found.n < FEWEST:
        return pairs.strip()
    mean = signed(100 * found.mean, 2)
    low, high = (signed(100 * end, _places(100 * end, 100 * found.margin)) for end in (found.low, found.high))
    return f"{mean} [{low}, {high}]{pairs}"


def _places(value: float, margin: float) -> int:
    """Decimals, two or more, by which a value is not rounded onto the margin."""
    near = abs(abs(value) - margin)
    return next((places for places in range(2, 6) if near > 0.5 * 10**-places or not near), 6)


def probability(p: float) -> str:
    """A p value: .034, < .001; with more digits where it would be rounded onto 5 %."""
    if p < 0.001:
        return "< .001"
    level = 1 - LEVEL
    places = next(places for places in range(3, 9) if abs(p - level) > 0.5 * 10**-places or places == 8)
    return bare(p, places)


def seeds(needed: int) -> str:
    """A number of seeds: 12, > 1,000."""
    return str(needed) if needed <= LIMIT else f"> {LIMIT:,}"


def rule(group: Group, table: Sequence[Row]) -> str:
    """How the verdicts of a comparison were reached, or why there are none; empty where none were to be expected."""
    if group.reference is not None and reference(group, table) is None:
        return f"No verdicts: no run of {group.reference} is finished, the arm that all others are held against."
    found = [row.verdict for row in table if row.verdict is not None]
    if group.margin is None or not found:
        return ""
    tested = [verdict.level for verdict in found if verdict.n >= FEWEST]
    together = f", {len(tested)} arms corrected together (Holm)" if len(tested) > 1 else ""
    lead = (
        f"Verdict: mean difference to {group.reference} over the seeds of both, in points, with the "
        f"{_range(tested or [LEVEL])} % interval of a paired two-sided t test{together}; "
    )
    if not group.margin:
        decision = "better or worse where the interval excludes 0 (no margin)"
    else:
        decision = (
            f"better or worse where the interval lies beyond a margin of {100 * group.margin:g} points, equivalent "
            "where it lies within (two one-sided tests)"
        )
    needed = (
        f" n needed: seeds that decide with {100 * POWER:g} % power if mean and spread are the true ones."
        if any(verdict.needed is not None for verdict in found)
        else ""
    )
    return f"{lead}{decision}, undecided else and for two seeds.{needed}"


def _range(levels: Sequence[float]) -> str:
    """The least and the greatest level, in percent: 95, 95 to 98.33."""
    return " to ".join(dict.fromkeys(f"{100 * level:.4g}" for level in (min(levels), max(levels))))
