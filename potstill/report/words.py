"""Numbers and facts as a reader meets them: in percent, with their spread, in one sentence."""

from collections.abc import Sequence

from potstill.record import Json
from potstill.report.load import Entry, Group, Notice
from potstill.report.rows import Row, Spread, best, paired, students
from potstill.report.verdict import FEWEST, LEVEL, Verdict


def bare(value: float, places: int) -> str:
    """A spread, without the zero that stands before every such point: .12."""
    text = f"{value:.{places}f}"
    return text[1:] if text.startswith("0.") else text


def signed(value: float, places: int) -> str:
    """A difference with its sign, a true minus among them."""
    return f"{value:+.{places}f}".replace("-", "\N{MINUS SIGN}")


def measured(value: Spread, scale: float = 100, places: int = 2) -> str:
    """Mean ± std; the mean alone where a single run leaves the spread unknown."""
    mean = f"{value.mean * scale:.{places}f}"
    return mean if value.std is None else f"{mean} ± {bare(value.std * scale, places)}"


def accuracy(row: Row) -> str:
    """Test accuracy in a sentence: 94.56 ± .12 % (n = 5)."""
    return f"{measured(row.test_accuracy)} % (n = {row.n})"


def amount(value: float) -> str:
    """A large count in its unit: 12.05 M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.2f} {name}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def summary(table: Sequence[Row]) -> str:
    """What the comparison found, without a verdict: the best arm against the first."""
    arms = students(table)
    baseline, top = arms[0], best(arms)
    if len(arms) == 1:
        return f"{top.arm} reaches {accuracy(top)} test accuracy."
    lead = f"Of {len(arms)} arms, {top.arm} has the highest mean test accuracy: {accuracy(top)}."
    other = arms[1:] if top is baseline else arms[:1]
    against = best(other)
    name = "The next is" if top is baseline else "The first arm is"
    sentence = f"{lead} {name} {against.arm} with {accuracy(against)}; {_difference(top, against)}."
    return sentence + _single(top, against)


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
    return "" if min(top.n, against.n) > 1 else " A single run says nothing about the spread between seeds."


def ruling(found: Verdict, n: int) -> str:
    """A verdict in a cell, in points: better +1.23 [+0.40, +2.06]; with its pairs where they are not the arm's n runs.

    Too few pairs to decide by leave the word alone: their interval would only look like a finding.
    """
    pairs = "" if found.n == n else f" (n = {found.n})"
    if found.n < FEWEST:
        return found.word + pairs
    mean, low, high = (signed(100 * value, 2) for value in (found.mean, found.low, found.high))
    return f"{found.word} {mean} [{low}, {high}]{pairs}"


def rule(group: Group, table: Sequence[Row]) -> str:
    """How the verdicts of a comparison were reached, in one sentence; empty where there are none."""
    if group.margin is None or all(row.verdict is None for row in table):
        return ""
    lead = (
        f"Verdict: mean difference to {students(table)[0].arm} over the seeds of both, in points, with the "
        f"{100 * LEVEL:g} % interval of a paired two-sided t test, each arm by itself; "
    )
    if not group.margin:
        return f"{lead}better or worse where the interval excludes 0 (no margin), undecided else and for two seeds."
    return (
        f"{lead}better or worse where the interval lies beyond a margin of {100 * group.margin:g} points, equivalent "
        f"where the {100 * (2 * LEVEL - 1):g} % interval lies within it, undecided else and for two seeds."
    )


def environment(entry: Entry) -> str:
    """Versions, device and commit of a run in one line; what its record does not hold is left out."""
    env = entry.record.environment
    versions: Json = env.get("versions") or {}
    names = {"potstill": "Potstill", "python": "Python", "torch": "PyTorch"}
    parts = [f"{name} {versions[key]}" for key, name in names.items() if versions.get(key)]
    device = str(env.get("device") or "")
    name = env.get("device_name") or env.get("cpu")
    several = f"{env['devices']} × " if env.get("devices", 1) > 1 else ""
    parts.append(f"{several}{device} ({name})" if device and name else device)
    threads = env.get("threads")
    parts.append(f"{threads} {'thread' if threads == 1 else 'threads'}" if threads else "")
    parts.append(str(env.get("precision") or ""))
    parts.append("compiled" if env.get("compile") is True else "")
    parts.append("deterministic" if env.get("deterministic") else "")
    parts.append(f"commit {str(env['commit'])[:12]}" if env.get("commit") else "")
    return ", ".join(part for part in parts if part) or "not recorded"


def environments(group: Group) -> tuple[str, ...]:
    """The distinct environments of a group's runs, with how many runs each has where there are several."""
    counts: dict[str, int] = {}
    for entry in group.entries:
        line = environment(entry)
        counts[line] = counts.get(line, 0) + 1
    if len(counts) == 1:
        return tuple(counts)
    return tuple(f"{line} ({n} of {len(group.entries)} runs)" for line, n in counts.items())


def remarks(group: Group) -> tuple[Notice, ...]:
    """Runs that count, and yet were not one uninterrupted training on one machine."""
    found: list[Notice] = []
    for entry in group.entries:
        for change in entry.record.environment.get("resumed") or ():
            what = ", ".join(str(difference) for difference in change.get("differences") or ()) or "unlike machine"
            exact = "not bitwise from there" if not entry.outcome.bitwise else "still bitwise"
            sentence = f"It was continued at step {change.get('step')} elsewhere ({what}); {exact}."
            found.append(Notice(f"{entry.arm}, seed {entry.outcome.seed}", sentence))
    return tuple(found)
