"""Two trained networks on the same test images: McNemar's exact test, and an interval of their difference in accuracy.

The test asks about these two networks on images like these. It knows nothing of the spread between seeds, so it says
nothing about the methods that made them.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.errors import UserError
from potstill.record import Record, read
from potstill.report.answers import PREDICTIONS, read_logits
from potstill.report.unnamed import data_of
from potstill.report.verdict import LEVEL, Interval
from potstill.report.words import probability, signed

Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """What two networks got right of the same test images; the difference, first minus second, is a fraction.

    Attributes:
        names: The runs, first and second.
        images: The test images.
        right: How many each got right.
        only: How many each got right and the other did not.
        difference: Accuracy of the first minus that of the second.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end of the interval.
        p: McNemar's exact two-sided p value of no difference.
        mid_p: The mid-p version of it, which is less conservative.
        remarks: What has to be known about the numbers, in sentences.
    """

    names: tuple[str, str]
    images: int
    right: tuple[int, int]
    only: tuple[int, int]
    difference: float
    low: float
    high: float
    p: float
    mid_p: float
    remarks: tuple[str, ...]

    @property
    def both(self) -> int:
        """Images that both got right."""
        return self.right[0] - self.only[0]


def pair(first: Path, second: Path) -> Pair:
    """Compare the predictions in two run folders.

    Raises:
        UserError: a folder holds no finished run, both are one run, or they were not tested on the same images.
    """
    records = _finished(first), _finished(second)
    names = _names(*records)
    if records[0].fingerprint == records[1].fingerprint:
        raise UserError(f"{first} and {second} are one and the same run; name two different ones.")
    told = [data_of(record) for record in records]
    if told[0] != told[1]:
        raise UserError(
            f"The runs are of different data, {told[0]} and {told[1]}; only runs of the same can be compared."
        )
    (guesses, labels), (others, same) = (_predictions(record) for record in records)
    if not np.array_equal(labels, same):
        raise UserError(
            f"{first} and {second} were not tested on the same images, for their labels differ; only runs of the same "
            "test split can be compared."
        )
    return _paired(names, guesses == labels, others == labels, _remarks(records, (guesses == labels, others == labels)))


def _paired(names: tuple[str, str], first: Truths, second: Truths, remarks: tuple[str, ...] = ()) -> Pair:
    images = len(first)
    right = int(first.sum()), int(second.sum())
    only = int((first & ~second).sum()), int((second & ~first).sum())
    both = right[0] - only[0]
    low, high = newcombe(both, *only, images - both - sum(only))
    p, mid_p = mcnemar(*only)
    difference = (right[0] - right[1]) / images
    return Pair(names, images, right, only, difference, low, high, p, mid_p, remarks)


def mcnemar(first: int, second: int) -> tuple[float, float]:
    """McNemar's exact two-sided p value and its mid-p version, from what only the one and only the other got right.

    Quinn McNemar: Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages.
    Psychometrika 12, 1947. Were both as good, each image on which they differ would go to either by a fair coin.
    """
    from scipy import special

    least, differing = min(first, second), first + second
    tail = float(special.bdtr(least, differing, 0.5))
    point = tail - float(special.bdtr(least - 1, differing, 0.5)) if least else tail
    return min(1.0, 2 * tail), min(1.0, 2 * tail - point)


def newcombe(both: int, first: int, second: int, neither: int, *, level: float = LEVEL) -> Interval:
    """The interval of the difference of two paired shares: Wilson's intervals of either, added as correlated errors.

    Robert G. Newcombe: Improved Confidence Intervals for the Difference Between Binomial Proportions Based on Paired
    Data. Statistics in Medicine 17, 1998, method 10.

    Args:
        both: Images that both got right.
        first: Images that only the first got right.
        second: Images that only the second got right.
        neither: Images that neither got right.
        level: The confidence level.
    """
    n = both + first + second + neither
    (p, low, high), (q, other_low, other_high) = (_wilson(right, n, level) for right in (both + first, both + second))
    phi = _correlation(both, first, second, neither)
    down, up = p - low, high - p
    other_down, other_up = q - other_low, other_high - q
    below = math.sqrt(max(0.0, down**2 - 2 * phi * down * other_up + other_up**2))
    above = math.sqrt(max(0.0, up**2 - 2 * phi * up * other_down + other_down**2))
    return p - q - below, p - q + above


def _wilson(right: int, n: int, level: float) -> tuple[float, float, float]:
    """A share and Wilson's score interval (1927)."""
    from scipy import special

    z = float(special.ndtri((1 + level) / 2))
    middle = (right + z**2 / 2) / (n + z**2)
    half = z * math.sqrt(right * (n - right) / n + z**2 / 4) / (n + z**2)
    return right / n, middle - half, middle + half


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """The correlation of two binary answers; a positive one is corrected for continuity, as method 10 asks."""
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not product:
        return 0.0
    moment = both * neither - first * second
    if moment > 0:
        moment = max(moment - (both + first + second + neither) / 2, 0.0)
    return moment / math.sqrt(product)


def lines(found: Pair) -> tuple[list[str], list[list[str]]]:
    """The comparison as a table: heads, and a line of cells for each network."""
    heads = ["run", "test accuracy, %", "right", "right alone"]
    cells = [
        [name, f"{100 * right / found.images:.2f}", f"{right:,}", f"{only:,}"]
        for name, right, only in zip(found.names, found.right, found.only, strict=True)
    ]
    return heads, cells


def state(found: Pair) -> str:
    """Test and interval in one line."""
    neither = found.images - found.both - sum(found.only)
    low, high = signed(100 * found.low, 2), signed(100 * found.high, 2)
    return (
        f"Of {found.images:,} images both are right on {found.both:,} and neither on {neither:,}. First minus second: "
        f"{signed(100 * found.difference, 2)} points, {100 * LEVEL:g} % interval [{low}, {high}] (Newcombe, paired); "
        f"McNemar exact p {_p(found.p)}, mid-p {_p(found.mid_p)}."
    )


def _p(value: float) -> str:
    text = probability(value)
    return text if text.startswith("<") else f"= {text}"


def sentence(found: Pair) -> str:
    """What the comparison found, in one sentence that claims no more than both the test and the interval say."""
    better = 0 if found.difference >= 0 else 1
    points = signed(100 * abs(found.difference), 2)
    low, high = (found.low, found.high) if better == 0 else (-found.high, -found.low)
    interval = f"[{signed(100 * low, 2)}, {signed(100 * high, 2)}]"
    numbers = f"{points} points {interval}, exact McNemar p {_p(found.p)}"
    tested, beyond = found.p < 1 - LEVEL, low > 0
    names = found.names[better], found.names[1 - better]
    if tested and beyond:
        lead = f"On these {found.images:,} images {names[0]} is the better network: {numbers}"
    else:
        doubt = "" if tested == beyond else " (test and interval do not agree)"
        lead = f"These {found.images:,} images do not decide between {names[0]} and {names[1]}: {numbers}{doubt}"
    return f"{lead}; about the methods behind the two it says nothing: that takes several seeds of each."


def _names(first: Record, second: Record) -> tuple[str, str]:
    """The runs' names, with their seeds; with the folders' where they would read the same."""
    names = [f"{record.run.get('name')}, seed {(record.result or {}).get('seed')}" for record in (first, second)]
    if names[0] == names[1]:
        names = [record.folder.name for record in (first, second)]
    return names[0], names[1]


def _finished(folder: Path) -> Record:
    if not folder.exists():
        raise UserError(f"{folder} does not exist; name two run folders.")
    record = read(folder)
    if record.status != "finished":
        what = "diverged" if record.status == "diverged" else "is not finished"
        raise UserError(f"The run in {folder} {what}, so there are no predictions to compare.")
    return record


def _predictions(record: Record) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class that a run chose for each test image, and the labels."""
    path = record.folder / PREDICTIONS
    try:
        logits, labels = read_logits(path)
    except ValueError as error:
        raise UserError(f"{path} {error}; delete the folder and run again.") from None
    return logits.argmax(1), labels


def _remarks(records: tuple[Record, Record], right: tuple[Truths, Truths]) -> tuple[str, ...]:
    """Predictions are kept in half precision, so that two classes may tie that did not."""
    found: list[str] = []
    for record, truths in zip(records, right, strict=True):
        recorded = (record.result or {}).get("test_accuracy")
        if isinstance(recorded, float) and abs(recorded - truths.mean()) > 1e-9:
            found.append(
                f"{record.folder.name} was measured at {100 * recorded:.2f} %; its logits are kept in half precision, "
                f"in which {100 * truths.mean():.2f} % come out right."
            )
    return tuple(found)
