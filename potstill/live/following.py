"""How far runs are, from their folders alone: records, locks, and the times that epochs ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal, cast

from potstill.errors import UserError
from potstill.record import LOCK, Json, Record, is_held, read_lines
from potstill.report.entry import opened
from potstill.report.find import Notice, find, place, said
from potstill.report.unnamed import UNNAMED

Status = Literal["running", "stopped", "diverged", "finished", "waiting"]

RECENT = 5
"""Epochs whose median tells the speed."""


@dataclass(frozen=True)
class Course:
    """How far one run is; what is not known is None.

    Attributes:
        recipe: The sweep that names it, or "other runs".
        arm: Its arm, or its own name.
        seed: Its seed.
        status: "running" where a process holds its folder, "waiting" where there is none yet, "stopped" where it was
            begun, is not finished, and nobody holds it.
        epoch: Finished epochs.
        epochs: All of them, unless it stops early.
        loss: The training loss of the last one.
        accuracy: On the validation split, after the last one.
        best: The highest of those.
        pace: Steps per second.
        left: Seconds until the last epoch ends.
        since: When it was last heard of, in seconds since 1970.
    """

    recipe: str
    arm: str
    seed: int | None
    status: Status
    epoch: int = 0
    epochs: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    best: float | None = None
    pace: float | None = None
    left: float | None = None
    since: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("finished", "diverged")


@dataclass(frozen=True)
class Sight:
    """All runs, and a sentence for whatever is none."""

    courses: tuple[Course, ...]
    notices: tuple[Notice, ...]

    @property
    def over(self) -> bool:
        """Whether nothing more will come of any."""
        return all(course.over for course in self.courses)


@dataclass(frozen=True)
class _Files:
    """What was read of a folder, and how its files were then."""

    stamp: tuple[tuple[int, int] | None, ...]
    record: Record
    lines: Sequence[Json]


class Following:
    """Looks at what paths name, as often as one likes; a file is read again when it has changed."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths
        self._files: dict[Path, _Files] = {}

    def look(self) -> Sight:
        """How far the runs are now.

        Raises:
            UserError: a path does not exist or holds nothing.
        """
        found = find(self._paths)
        notices = list(found.notices)
        courses: dict[Path, Course] = {}
        for file, sweep in found.sweeps.items():
            recipe = str(sweep.get("recipe") or file.name)
            for run in sweep["runs"]:
                # Two arms may name one run; it is shown once.
                folder = place(file, run)
                if folder not in courses:
                    arm = _Named(recipe, str(run["arm"]), run["seed"], str(run["fingerprint"]))
                    self._add(folder, arm, courses, notices)
        for folder in found.rest:
            self._add(folder, None, courses, notices)
        return Sight(tuple(courses.values()), tuple(notices))

    def _add(self, folder: Path, named: "_Named | None", courses: dict[Path, Course], notices: list[Notice]) -> None:
        try:
            courses[folder] = self._course(folder, named)
        except UserError as error:
            notices.append(Notice(folder.name, said(error, folder)))
        except (KeyError, TypeError, ValueError, AttributeError, OSError):
            sentence = f"{folder.name} cannot be read; it was not written by Potstill, or is damaged."
            notices.append(Notice(folder.name, sentence))

    def _course(self, folder: Path, named: "_Named | None") -> Course:
        begun = (folder / "run.json").exists()
        held = is_held(folder)
        if named is not None and not begun:
            return Course(named.recipe, named.arm, named.seed, "running" if held else "waiting")
        if not begun and held:
            return Course(UNNAMED, folder.name, None, "running", since=time.time())
        files = self._read(folder, None if named is None else named.fingerprint)
        run = files.record.run
        if named is None:
            named = _Named(UNNAMED, str(run["name"]), int(run["run"]["seed"]), "")
        return _course(named, files, held, (folder / LOCK).stat().st_mtime if held else 0.0)

    def _read(self, folder: Path, fingerprint: str | None) -> _Files:
        stamp = tuple(_stamp(folder / name) for name in ("run.json", "metrics.jsonl", "result.json"))
        files = self._files.get(folder)
        if files is None or files.stamp != stamp:
            record = opened(folder, fingerprint)
            if record.result is None and stamp[2] is not None:
                raise UserError(f"{folder.name}/result.json was cut short; delete it to run again.")
            files = self._files[folder] = _Files(stamp, record, read_lines(folder / "metrics.jsonl"))
        return files


@dataclass(frozen=True)
class _Named:
    """Which run it is."""

    recipe: str
    arm: str
    seed: int | None
    fingerprint: str


def _course(named: _Named, files: _Files, held: bool, begun: float) -> Course:
    result, lines = files.record.result, files.lines
    status: Status = "running" if held else "stopped"
    if result is not None:
        status = "diverged" if result["status"] == "diverged" else "finished"
    last = lines[-1] if lines else None
    judged = [line["validation"]["accuracy"] for line in lines if line["validation"] is not None]
    epochs = sum(stage["epochs"] for stage in files.record.run["run"]["stages"])
    since = max(stamp[0] / 1e9 for stamp in files.stamp if stamp is not None)
    seconds = _seconds(lines, begun)
    epoch = 0 if last is None else int(last["epoch"])
    left = None
    if status == "running" and seconds is not None:
        under_way = time.time() - max(since, begun)
        left = max((epochs - epoch) * seconds - under_way, 0.0)
    return Course(
        recipe=named.recipe,
        arm=named.arm,
        seed=named.seed,
        status=status,
        epoch=epoch,
        epochs=epochs,
        loss=None if last is None else float(last["train"]["loss"]),
        accuracy=judged[-1] if judged else None,
        best=max(judged, default=None),
        pace=None if not seconds or last is None else last["step"] / last["epoch"] / seconds,
        left=left,
        since=max(since, begun),
    )


def _seconds(lines: Sequence[Json], begun: float) -> float | None:
    """How long an epoch takes: the median over the last ones, so that a pause between two of them does not count.

    Args:
        lines: Of `metrics.jsonl`.
        begun: When the process that holds the folder began; 0 if there is none.
    """
    times = [cast(float, line["time"]) for line in lines[-RECENT - 1 :] if "time" in line]
    if len(times) == len(lines) == 1 and begun:
        times = [begun, *times]
    laps = [after - before for before, after in pairwise(times)]
    return max(median(laps), 1e-3) if laps else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file does."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size
