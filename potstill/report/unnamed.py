"""Runs that no sweep names, as comparisons: one for each data, one arm for each name."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from potstill.errors import UserError
from potstill.record import Json, Record
from potstill.report.entry import Entry, Group, entry_of, opened
from potstill.report.find import Notice, said

UNNAMED = "other runs"
"""What runs that no sweep names are called together."""


def unnamed(folders: Sequence[Path], aside: Collection[str] = ()) -> list[Group]:
    """Groups of runs that no sweep names; what cannot be counted is in the only one, or in one that is empty.

    Args:
        folders: Run folders.
        aside: Fingerprints of teachers that are left out unless a run of these folders learned from them.
    """
    entries: dict[str, Entry] = {}
    left_out: list[Notice] = []
    for folder in folders:
        try:
            entry = _entry(folder)
        except UserError as error:
            left_out.append(Notice(folder.name, said(error, folder)))
            continue
        first = entries.setdefault(entry.record.fingerprint, entry).record.folder
        if first != folder:
            left_out.append(Notice(folder.name, f"It is the same run as {first.name} and counts once."))
    kept = _asked_for(list(entries.values()), set(aside))
    kinds = list(dict.fromkeys(data_of(entry.record) for entry in kept))
    if len(kinds) == 1:
        return [_group(UNNAMED, kinds[0], kept, left_out)]
    groups = [
        _group(f"{UNNAMED} on {data}", data, [entry for entry in kept if data_of(entry.record) == data], ())
        for data in kinds
    ]
    return [*groups, _group(UNNAMED, "", (), left_out)] if left_out else groups


def teachers(folders: Iterable[Path]) -> set[str]:
    """The fingerprints of the teachers behind finished runs."""
    found: set[str] = set()
    for folder in folders:
        try:
            teacher = (opened(folder, None).result or {}).get("teacher")
        except UserError:
            continue
        found |= {teacher} if isinstance(teacher, str) else set()
    return found


def data_of(record: Record) -> str:
    """What a run says about its data: the name, and for arrays of one's own a hash of their content."""
    data = _inner(_inner(record.run, "run"), "data")
    content = data.get("content")
    return f"{data.get('name')}" if content is None else f"{data.get('name')} ({str(content)[:12]})"


def _inner(value: Json, key: str) -> Json:
    inner = value.get(key)
    return cast(Json, inner) if isinstance(inner, dict) else {}


def _entry(folder: Path) -> Entry:
    record = opened(folder, None)
    return entry_of(record, {"arm": record.run.get("name") or folder.name, "published": None, "settings": {}})


def _asked_for(entries: list[Entry], aside: set[str]) -> list[Entry]:
    """The entries without teachers that stand aside and whom none of the others asked, nor their own teachers."""
    while True:
        asked = {entry.outcome.teacher for entry in entries}
        gone = [each for each in entries if each.record.fingerprint in aside - asked]
        if not gone:
            return entries
        entries = [entry for entry in entries if entry not in gone]
        aside = aside | {entry.outcome.teacher for entry in gone if entry.outcome.teacher}


def _group(name: str, data: str, entries: Sequence[Entry], left_out: Sequence[Notice]) -> Group:
    known = {entry.outcome.teacher for entry in entries}
    shown = tuple(
        replace(entry, arm=arm, role="teacher" if entry.record.fingerprint in known else "student")
        for entry, arm in zip(entries, _arm_names(entries), strict=True)
    )
    return Group(name, f"Runs on {data} that no sweep names", None, None, None, shown, tuple(left_out))


def _arm_names(entries: Sequence[Entry]) -> list[str]:
    """A mean over unlike runs means nothing, so a name that stands for several carries a fingerprint too.

    Runs are alike that differ in seeds alone, that of a teacher among them; where an arm would have a seed twice, under
    two teachers say, only those are that differ in their own.
    """
    alike = [_spec(entry, _without_seeds) for entry in entries]
    seeds = Counter((entry.arm, spec, entry.outcome.seed) for entry, spec in zip(entries, alike, strict=True))
    twice = {(arm, spec) for (arm, spec, _), count in seeds.items() if count > 1}
    specs = [
        _spec(entry, _without_its_seed) if (entry.arm, spec) in twice else spec
        for entry, spec in zip(entries, alike, strict=True)
    ]
    kinds: dict[str, dict[str, str]] = {}
    for entry, spec in zip(entries, specs, strict=True):
        kinds.setdefault(entry.arm, {}).setdefault(spec, entry.record.fingerprint[:6])
    return [
        entry.arm if len(kinds[entry.arm]) == 1 else f"{entry.arm} · {kinds[entry.arm][spec]}"
        for entry, spec in zip(entries, specs, strict=True)
    ]


def _spec(entry: Entry, without: Any) -> str:
    return json.dumps(without(entry.record.run.get("run")), sort_keys=True)


def _without_its_seed(value: Any) -> Any:
    return cast(Json, value) | {"seed": None} if isinstance(value, dict) else value


def _without_seeds(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast(Json, value).items()
        return {key: _without_seeds(inner) for key, inner in items if key not in ("seed", "fingerprint")}
    return [_without_seeds(inner) for inner in cast(list[Any], value)] if isinstance(value, list) else value
