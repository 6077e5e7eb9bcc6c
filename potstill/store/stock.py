"""What the stores of a folder of runs hold, how much they cost, and their removal."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill import record
from potstill.errors import UserError
from potstill.store.rows import Rows, head_of
from potstill.store.shelf import KEPT
from potstill.store.storage import taken_by, told_size


@dataclass(frozen=True)
class Held:
    """What is there of one kind about a split: whole rows, images, and the views that there are rows for, if any end.

    The kind is the logits' where `kind` is empty.
    """

    split: str
    kind: str
    rows: int
    images: int
    views: int | None


@dataclass(frozen=True)
class Stock:
    """One store as it stands on disk.

    Attributes:
        key: What `--drop` takes.
        folder: Where it is.
        label: The teacher's name.
        data: The data set's.
        size: Bytes on disk.
        held: What it holds about each split.
        log: What was computed, read and compared.
    """

    key: str
    folder: Path
    label: str
    data: str
    size: int
    held: tuple[Held, ...]
    log: tuple[record.Json, ...]

    @property
    def agreement(self) -> tuple[int, int] | None:
        """Of the last comparison of each kind and split with the live teacher: equal answers, and compared ones."""
        last = {_whose(line): line for line in self.log if "compared" in line}
        if not last:
            return None
        return sum(line["equal"] for line in last.values()), sum(line["compared"] for line in last.values())

    @property
    def break_even(self) -> float | None:
        """After how many runs, each of which shows every stored row once, it has paid for itself; None for never.

        Without it n runs ask the teacher n times about every image in every view. With it the first asks, and writes,
        and each later one reads, and compares a chunk of each: n = 1 + writing / (asking − reading − comparing).
        """
        most: dict[str, int] = {}
        for each in self.held:  # One pass answers for all kinds.
            most[each.split] = max(most.get(each.split, 0), each.rows)
        asking = sum(most.values()) * self._seconds("asking", "rows")
        writing = sum(each.rows * self._seconds("writing", "rows", each.kind) for each in self.held)
        reading = sum(each.rows * self._seconds("reading", "read", each.kind) for each in self.held)
        compared: dict[tuple[str, str], list[float]] = {}
        for line in self.log:
            if "compared" in line:
                compared.setdefault(_whose(line), []).append(line["seconds"])
        saved = asking - reading - sum(sum(each) / len(each) for each in compared.values())
        return 1 + writing / saved if saved > 0 else None

    def _seconds(self, what: str, per: str, kind: str = "") -> float:
        """Of one row, in the mean."""
        lines = [line for line in self.log if what in line and line.get("kind", "") == kind]
        return sum(line[what] for line in lines) / max(sum(line[per] for line in lines), 1)


def _whose(line: record.Json) -> tuple[str, str]:
    """The split and the kind that a line of the log is about."""
    return line["split"], line.get("kind", "")


def stocks(root: Path) -> list[Stock]:
    """Every store under `root`; each row is looked at, so that what is told is there."""
    found: list[Stock] = []
    for path in sorted(root.glob("*/about.json")):
        about, folder = record.read_json(path), path.parent
        if about is not None:
            found.append(
                Stock(
                    key=about["key"][: record.SHORT],
                    folder=folder,
                    label=about["label"],
                    data=about["identity"]["data"]["name"],
                    size=sum(taken_by(each) for each in folder.iterdir()),
                    held=tuple(_held(each) for each in sorted(folder.glob("*.rows")) if head_of(each)),
                    log=tuple(record.read_lines(folder / "log.jsonl")),
                )
            )
    return found


def _held(path: Path) -> Held:
    head = head_of(path) or {}
    count = Rows(path, head, head["outputs"] * KEPT[head["dtype"]].itemsize).count()
    return Held(head["split"], head.get("kind", ""), count, head["images"], head["views"])


def drop(root: Path, key: str) -> Stock:
    """Remove the store with this key; returns what it was.

    Raises:
        UserError: there is none.
    """
    there = stocks(root)
    for stock in there:
        if stock.key == key:
            shutil.rmtree(stock.folder)
            return stock
    keys = f"expected one of {', '.join(stock.key for stock in there)}" if there else "there are no stores"
    raise UserError(f"No store in {root} has the key {key!r}; {keys}.")


HEAD = ("key", "teacher", "data", "holds", "size", "as the live teacher", "pays after")


def rows_of(there: Sequence[Stock]) -> list[tuple[str, ...]]:
    """The stores as lines of a table under `HEAD`."""
    return [_line(stock) for stock in there]


def _line(stock: Stock) -> tuple[str, ...]:
    agreement: Any = stock.agreement
    pays = stock.break_even
    return (
        stock.key,
        stock.label,
        stock.data,
        ", ".join(_coverage(held) for held in stock.held) or "nothing",
        told_size(stock.size),
        "not compared yet" if agreement is None else f"{agreement[0]:,} of {agreement[1]:,}",
        "never" if pays is None else f"{pays:.2f} runs",
    )


def _coverage(held: Held) -> str:
    turns = held.rows / max(held.images, 1)
    what = f"{held.split} ({held.kind})" if held.kind else held.split
    if held.views == 1:
        return f"{what} {turns:.1%}"
    return f"{what} {turns:.4g} views" if held.views is None else f"{what} {turns:.4g} of {held.views} views"
