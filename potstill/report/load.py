"""From paths to finished runs: what can be reported, and a sentence for everything that cannot."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from potstill.errors import UserError
from potstill.record import Json, Record, read
from potstill.report import tuned
from potstill.report.find import SWEEP, Notice, find, margin_of, place, said
from potstill.report.outcome import Outcome, outcome
from potstill.report.tuned import TUNE, Tuning

UNNAMED = "other runs"
"""The group of runs that no sweep names."""


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


@dataclass(frozen=True)
class Report:
    """Every group with something to show, notices that belong to none of them, and what tunings found."""

    groups: tuple[Group, ...]
    left_out: tuple[Notice, ...]
    tunings: tuple[Tuning, ...] = ()


def gather(paths: Sequence[Path]) -> Report:
    """Read what the paths name, each file once.

    Raises:
        UserError: a path does not exist or holds nothing, or no finished run is left.
    """
    found = find([path for path in paths if not path.name.endswith(TUNE)])
    notices = list(found.notices)
    tunings, damaged = tuned.gather(paths, SWEEP)
    notices += [Notice(file.name, said(error, file)) for file, error in damaged.items()]
    groups = [_sweep_group(file, value) for file, value in found.sweeps.items()]
    tried = {(file.parent / run).resolve() for file, told in tunings.items() for one in told for run in one.runs}
    rest = [folder for folder in found.rest if folder.resolve() not in tried]
    if rest:
        groups.append(_unnamed_group(rest))
    shown = tuple(group for group in groups if group.entries)
    for group in groups:
        if not group.entries:
            notices += [replace(n, name=f"{group.recipe}: {n.name}") for n in group.left_out]
    if not shown and not any(tunings.values()):
        raise UserError(_nothing(paths, notices))
    return Report(shown, tuple(notices), tuple(one for found in tunings.values() for one in found))


def _nothing(paths: Sequence[Path], notices: Sequence[Notice]) -> str:
    where = ", ".join(str(path) for path in paths) or "no path at all"
    first = f" ({notices[0].name}: {notices[0].sentence.rstrip('.')})" if notices else ""
    return f"There is no finished run to report in {where}{first}; finish a run first, or name another folder."


def _sweep_group(file: Path, value: Json) -> Group:
    entries: list[Entry] = []
    left_out: list[Notice] = []
    records: dict[tuple[Path, str], Record] = {}
    for run in value["runs"]:
        folder, fingerprint = place(file, run), str(run["fingerprint"])
        try:
            # Two arms may name one run (the corner of a grid is also the baseline): it is read once.
            if (folder, fingerprint) not in records:
                records[folder, fingerprint] = opened(folder, fingerprint)
            entries.append(_entry(records[folder, fingerprint], run))
        except UserError as error:
            left_out.append(Notice(f"{run['arm']}, seed {run['seed']}", said(error, folder)))
    recipe = str(value.get("recipe") or file.name.removesuffix(SWEEP))
    title = str(value.get("title") or "")
    arms = list(dict.fromkeys(str(run["arm"]) for run in value["runs"]))
    # Whichever run of an arm is finished, the arm keeps its place.
    entries.sort(key=lambda entry: arms.index(entry.arm))
    told = recipe, title, value.get("command"), _reference(value), margin_of(file, value)
    return Group(*told, tuple(entries), tuple(left_out))


def _reference(value: Json) -> str | None:
    """The first arm of a sweep that is no teacher, or the first of all; None for a sweep without a run."""
    students = [run for run in value["runs"] if run.get("role") != "teacher"]
    return next((str(run["arm"]) for run in (*students, *value["runs"])), None)


def _unnamed_group(folders: Iterable[Path]) -> Group:
    """Runs that no sweep names: one arm per name, or more where the same name stands for unlike runs."""
    entries: list[Entry] = []
    left_out: list[Notice] = []
    for folder in folders:
        try:
            record = opened(folder, None)
            run: Json = {"arm": record.run.get("name") or folder.name, "published": None, "settings": {}}
            entries.append(_entry(record, run))
        except UserError as error:
            left_out.append(Notice(folder.name, said(error, folder)))
    teachers = {entry.outcome.teacher for entry in entries}
    roles = ["teacher" if entry.record.fingerprint in teachers else "student" for entry in entries]
    arms = _arm_names(entries)
    entries = [replace(e, role=role, arm=arm) for e, role, arm in zip(entries, roles, arms, strict=True)]
    return Group(UNNAMED, "Runs that no sweep names", None, None, None, tuple(entries), tuple(left_out))


def _arm_names(entries: Sequence[Entry]) -> list[str]:
    """A mean over unlike runs means nothing, so a name that stands for several carries a fingerprint too."""
    kinds: dict[str, dict[str, str]] = {}
    specs = [json.dumps(_without_seeds(entry.record.run.get("run")), sort_keys=True) for entry in entries]
    for entry, spec in zip(entries, specs, strict=True):
        kinds.setdefault(entry.arm, {}).setdefault(spec, entry.record.fingerprint[:6])
    return [
        entry.arm if len(kinds[entry.arm]) == 1 else f"{entry.arm} · {kinds[entry.arm][spec]}"
        for entry, spec in zip(entries, specs, strict=True)
    ]


def _without_seeds(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast(Json, value).items()
        return {key: _without_seeds(inner) for key, inner in items if key not in ("seed", "fingerprint")}
    return [_without_seeds(inner) for inner in cast(list[Any], value)] if isinstance(value, list) else value


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


def _entry(record: Record, run: Json) -> Entry:
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
