"""What paths name: sweeps by their files, and folders of runs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import UserError
from potstill.record import LOCK, STORES, Json, check_format, folder_of, read_json

SWEEP = ".sweep.json"
"""How the name of a sweep's file ends."""


@dataclass(frozen=True)
class Notice:
    """What a reader has to know about one run or file, in a sentence."""

    name: str
    sentence: str


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
    notices: list[Notice] = []
    inside = [_inside(path) for path in paths]
    for file in _once(file for files, _ in inside for file in files):
        try:
            sweeps[file] = _read_sweep(file)
        except UserError as error:
            if file in paths:
                raise
            notices.append(Notice(file.name, said(error, file)))
    named = {place(file, run).resolve() for file, value in sweeps.items() for run in value["runs"]}
    folders = _once(folder for _, folders in inside for folder in folders)
    return Found(sweeps, tuple(folder for folder in folders if folder.resolve() not in named), tuple(notices))


def _once(paths: Iterable[Path]) -> list[Path]:
    """Every place by the first of its spellings."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _inside(path: Path) -> tuple[list[Path], list[Path]]:
    """The sweep files and the run folders that a path is or holds."""
    if not path.exists():
        raise UserError(f"{path} does not exist; name a sweep file, a run folder, or a folder of runs.")
    if path.is_file():
        return [path], []
    if (path / "run.json").exists():
        return [], [path]
    files, folders = sorted(path.glob(f"*{SWEEP}")), [each for each in sorted(path.iterdir()) if _is_run(each)]
    if not files and not folders:
        raise UserError(f"{path} holds neither a sweep file nor a run folder; name the folder that your runs are in.")
    return files, folders


def _is_run(folder: Path) -> bool:
    """Whether a run has begun in a folder; a report, a store or anything else may lie beside runs."""
    hidden = folder.name.startswith(".") or folder.name == STORES
    return not hidden and any((folder / name).exists() for name in ("run.json", LOCK))


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
    margin_of(path, value)
    return value


def margin_of(path: Path, value: Json) -> float:
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


def said(error: UserError, path: Path) -> str:
    """The sentence, without where on this machine the runs lie: a report travels."""
    return str(error).replace(str(path), path.name)
