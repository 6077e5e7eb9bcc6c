"""From paths to finished runs: what can be reported, and a sentence for everything that cannot."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from potstill.errors import UserError
from potstill.record import STORES, Json, Record, check_format, folder_of, read, read_json
from potstill.report import tuned
from potstill.report.outcome import Outcome, outcome
from potstill.report.tuned import TUNE, Tuning

SWEEP = ".sweep.json"
"""How the name of a sweep's file ends."""

UNNAMED = "other runs"
"""The group of runs that no sweep names."""


@dataclass(frozen=True)
class Notice:
    """What a reader has to know about one run or file, in a sentence."""

    name: str
    sentence: str


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
    """The runs of one sweep, or those that no sweep names; `command` and `margin` are None for the latter."""

    recipe: str
    title: str
    command: str | None
    margin: float | None
    entries: tuple[Entry, ...]
    left_out: tuple[Notice, ...]


@dataclass(frozen=True)
class Report:
    """Every group with something to show, notices that belong to none of them, and what tunings found."""

    groups: tuple[Group, ...]
    left_out: tuple[Notice, ...]
    tunings: tuple[Tuning, ...] = ()


@dataclass(frozen=True)
class Found:
    """What paths name: sweeps by their files, run folders that none of them names, and files that cannot be read."""

    sweeps: dict[Path, Json]
    rest: tuple[Path, ...]
    notices: tuple[Notice, ...]


def find(paths: Sequence[Path]) -> Found:
    """Sort paths, each of which is a sweep file, a run folder, or a folder of either.

    Raises:
        UserError: a path does not exist or holds nothing.
    """
    sweeps: dict[Path, Json] = {}
    folders: dict[Path, None] = {}
    notices: list[Notice] = []
    for path in paths:
        _look(path, sweeps, folders, notices)
    named = {place(file, run).resolve() for file, value in sweeps.items() for run in value["runs"]}
    rest = tuple(folder for folder in folders if folder.resolve() not in named)
    return Found(sweeps, rest, tuple(notices))


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


def _look(path: Path, sweeps: dict[Path, Json], folders: dict[Path, None], notices: list[Notice]) -> None:
    """Sort one path into sweeps and run folders."""
    if not path.exists():
        raise UserError(f"{path} does not exist; name a sweep file, a run folder, or a folder of runs.")
    if path.is_file():
        sweeps[path] = _read_sweep(path)
    elif (path / "run.json").exists():
        folders[path] = None
    else:
        files = sorted(path.glob(f"*{SWEEP}"))
        inner = [each for each in sorted(path.iterdir()) if each.is_dir() and not _is_passed_over(each.name)]
        if not files and not inner:
            raise UserError(
                f"{path} holds neither a sweep file nor a run folder; name the folder that your runs are in."
            )
        folders.update(dict.fromkeys(inner))
        for file in files:
            try:
                sweeps[file] = _read_sweep(file)
            except UserError as error:
                notices.append(Notice(file.name, said(error, file)))


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name == STORES


def _read_sweep(path: Path) -> Json:
    value = read_json(path) if path.name.endswith(SWEEP) else None
    if value is None or not isinstance(value.get("format"), int):
        raise UserError(
            f"{path} is not a readable sweep file; name a *{SWEEP} file, a run folder, or a folder of runs."
        )
    check_format(value, path)
    runs = value.get("runs")
    keys = {"arm", "seed", "fingerprint", "folder"}
    if not isinstance(runs, list) or not all(isinstance(run, dict) and keys <= run.keys() for run in runs):  # pyright: ignore[reportUnknownVariableType]
        raise UserError(f"{path} is damaged: its runs do not each name an arm, a seed, a fingerprint and a folder.")
    _margin(path, value)
    return value


def _margin(path: Path, value: Json) -> float:
    """The margin of a sweep, as a fraction; 0 in files from before there was one."""
    margin = value.get("margin", 0.0)
    number = isinstance(margin, int | float) and not isinstance(margin, bool) and math.isfinite(margin)
    if not number or not 0 <= margin < 1:
        raise UserError(f"{path} is damaged: its margin is {margin!r}, not a fraction from 0 to below 1.")
    return float(margin)


def place(file: Path, run: Json) -> Path:
    """Where a sweep's run lies; its label may have changed, its fingerprint has not."""
    folder = file.parent / str(run["folder"])
    return folder if folder.is_dir() else folder_of(file.parent, folder.name, str(run["fingerprint"]))


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
    return Group(recipe, title, value.get("command"), _margin(file, value), tuple(entries), tuple(left_out))


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
    return Group(UNNAMED, "Runs that no sweep names", None, None, tuple(entries), tuple(left_out))


def said(error: UserError, path: Path) -> str:
    """The sentence, without where on this machine the runs lie: a report travels."""
    return str(error).replace(str(path), path.name)


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
