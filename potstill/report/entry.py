"""One finished run in its place within a comparison, read from its folder and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from potstill.errors import UserError
from potstill.record import Json, Record, read
from potstill.report.find import Notice
from potstill.report.outcome import Outcome, outcome


@dataclass(frozen=True)
class Entry:
    """One finished run in its place within a comparison."""

    arm: str
    role: str
    published: float | None
    settings: Json
    record: Record
    outcome: Outcome
    epochs: Sequence[Json]
    after: str | None = None
    change: str = ""


@dataclass(frozen=True)
class Group:
    """The runs of one sweep, or those that no sweep names; `command`, `reference` and `margin` are None for the latter.

    The reference is the sweep's first arm that is no teacher, whether a run of it is finished or not.
    """

    recipe: str
    title: str
    command: str | None
    reference: str | None
    margin: float | None
    entries: tuple[Entry, ...]
    left_out: tuple[Notice, ...]


def opened(folder: Path, fingerprint: str | None) -> Record:
    """The record in a folder, which must be of that fingerprint where one is given.

    Raises:
        UserError: it is not, or was not written by Potstill, or by a newer one.
    """
    if fingerprint is not None and not folder.is_dir():
        raise UserError("It has not been started: there is no folder of its fingerprint.")
    try:
        record = read(folder)
    except (TypeError, OSError):
        raise UserError(f"{folder.name}/run.json cannot be read; it was not written by Potstill.") from None
    if not re.fullmatch(r"[0-9a-f]{64}", record.fingerprint):
        raise UserError(f"{folder.name}/run.json holds no fingerprint; it was not written by Potstill.")
    if fingerprint not in (None, record.fingerprint):
        raise UserError(f"{folder.name} holds another run than the one the sweep names.")
    return record


def entry_of(record: Record, run: Json) -> Entry:
    """A finished run; whatever is wrong with it is raised as a sentence."""
    result = record.result
    name = record.folder.name
    if result is None:
        damaged = (record.folder / "result.json").exists()
        what = "its result.json was cut short" if damaged else f"it has {_epochs(record.metrics)} so far"
        raise UserError(f"{name} is not finished: {what}; run it again to continue.")
    if result.get("status") == "diverged":
        raise UserError(
            f"{name} diverged after {_epochs(record.metrics)}: {result.get('reason') or 'no reason given'}."
        )
    try:
        measured = outcome(result)
    except ValueError as error:
        raise UserError(f"{name}/result.json is damaged: {error}.") from None
    if not all(isinstance(line, dict) and isinstance(line.get("train"), dict) for line in record.metrics):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"{name}/metrics.jsonl is damaged: a line says nothing about training.")
    settings, published, after = run.get("settings"), run.get("published"), run.get("after")
    return Entry(
        arm=str(run["arm"]),
        role=str(run.get("role") or "student"),
        published=published if isinstance(published, int | float) else None,
        settings=_plain(settings),
        record=record,
        outcome=measured,
        epochs=record.metrics,
        after=None if after is None else str(after),
        change=str(run.get("change") or ""),
    )


def _plain(settings: Any) -> Json:
    """Settings that can be told apart and put in order: numbers and words by name."""
    known = cast(Json, settings) if isinstance(settings, dict) else {}
    return {key: value for key, value in known.items() if isinstance(value, int | float | str)}


def _epochs(lines: Sequence[Json]) -> str:
    return "no finished epoch" if not lines else "1 epoch" if len(lines) == 1 else f"{len(lines)} epochs"
