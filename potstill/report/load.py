"""From paths to finished runs: what can be reported, and a sentence for everything that cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.errors import UserError
from potstill.record import Json, Record
from potstill.report import tuned
from potstill.report.entry import Entry, Group, entry_of, opened
from potstill.report.find import SWEEP, Notice, find, margin_of, place, said
from potstill.report.tuned import TUNE, Tuning
from potstill.report.unnamed import teachers, unnamed


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
    groups += unnamed([folder for folder in found.rest if folder.resolve() not in tried], teachers(tried))
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
            entries.append(entry_of(records[folder, fingerprint], run))
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
