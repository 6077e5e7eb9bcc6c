"""The run folder: what a run leaves on disk, written so that a kill at any moment loses nothing that was there.

    runs/<name>-<fingerprint>/
        run.json                the resolved specification, its fingerprint, and the version that wrote it
        env.json                versions, commit, device, threads, flags; and where an unlike machine took over
        summary.json            layers, parameters and mult-adds of the student (and of the teacher)
        metrics.jsonl           one line per finished epoch
        checkpoint.safetensors  where to continue; gone once the run is finished
        student.safetensors     the student's own weights after the last epoch
        best.safetensors        the same at the best validation epoch, where there is a validation split
        predictions.safetensors fp16 test logits and labels
        result.json             every number that a table shows, written last: its presence is "finished"
        events.out.tfevents.*   the same for TensorBoard, a file for each start; not with `--events off`
        loggers.json            as what MLflow and Weights & Biases know the run, with `--logger`

Nothing here imports torch, so that a report starts at once.
"""

import fcntl
import json
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from potstill.errors import UserError

FORMAT = 1
"""The layout that this version writes; a folder with a higher number was written by a newer version."""

STORES = "store"
"""Where in a folder of runs the teachers' stores are (see `potstill.store.storage`)."""

SHORT = 12
"""How many hexadecimal digits of the fingerprint stand in a folder's name."""

LOCK = ".lock"
"""The file by which a process holds a run folder; it was made anew when the last one began."""

_TRIES = 5

Json = dict[str, Any]


def write_bytes(path: Path, payload: bytes) -> None:
    """Replace a file as a whole: written beside it under a temporary name, synced, renamed."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # Another process may write the same.
    with open(temporary, "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file as a whole; numbers that JSON does not know (NaN, infinity) are refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Json | None:
    """The object in a JSON file; None where there is no such file, or it was cut short.

    Raises:
        UserError: it is there and cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise UserError(_unreadable(path, error)) from None
    return cast(Json, value) if isinstance(value, dict) else None


def append_line(path: Path, value: Mapping[str, Any]) -> int:
    """Append one JSON line, synced; returns the length of the file in bytes after it."""
    with open(path, "ab") as file:
        file.write((json.dumps(value, allow_nan=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def cut(path: Path, length: int) -> None:
    """Cut an appended file back to what a checkpoint knows of; lines after it will be written again."""
    if path.exists() and path.stat().st_size > length:
        os.truncate(path, length)


def read_lines(path: Path) -> list[Json]:
    """The whole JSON lines of an appended file; a last line that was cut short is left out."""
    try:
        payload = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(_unreadable(path, error)) from None
    lines = payload.split(b"\n")[:-1]  # What stands after the last newline was never finished.
    try:
        values = [json.loads(line) for line in lines]
        if all(isinstance(value, dict) for value in values):
            return values
    except (json.JSONDecodeError, UnicodeDecodeError):
        pass
    raise UserError(f"{path} holds a line that is not JSON; the folder was damaged: delete {path.parent} to run again.")


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read ({error.strerror}); expected a file of a run, which this user may read."


@dataclass(frozen=True)
class Record:
    """One run folder, for reading; every property tells what is on disk when it is first asked."""

    folder: Path

    @cached_property
    def run(self) -> Json:
        """`run.json`: format, version, fingerprint, name, and the specification under "run"."""
        return read_json(self.folder / "run.json") or {}

    @cached_property
    def environment(self) -> Json:
        """`env.json`."""
        return read_json(self.folder / "env.json") or {}

    @cached_property
    def summary(self) -> Json:
        """`summary.json`: "student" and, where there is one, "teacher"."""
        return read_json(self.folder / "summary.json") or {}

    @cached_property
    def result(self) -> Json | None:
        """`result.json`; None while the run is not finished."""
        return read_json(self.folder / "result.json")

    @cached_property
    def metrics(self) -> list[Json]:
        """The finished epochs, in order."""
        return read_lines(self.folder / "metrics.jsonl")

    @property
    def status(self) -> str:
        """'finished', 'diverged', or 'unfinished'."""
        return str(self.result.get("status", "unfinished")) if self.result else "unfinished"

    @property
    def fingerprint(self) -> str:
        """The run's identity, 64 hexadecimal digits; empty where `run.json` is missing or broken."""
        return str(self.run.get("fingerprint", ""))


def read(folder: Path) -> Record:
    """The record in a folder.

    Raises:
        UserError: the folder is not a run's, or a newer version wrote it.
    """
    record = Record(folder)
    if not record.run:
        raise UserError(f"{folder} is not a run folder: it holds no readable run.json; name a folder under runs/.")
    check_format(record.run, folder / "run.json")
    return record


def check_format(value: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that a newer version wrote, or that is damaged."""
    format = value.get("format", 0)
    if not isinstance(format, int):
        raise UserError(f"{path} is damaged: its format is {format!r}, not a whole number; restore the file.")
    if format > FORMAT:
        raise UserError(
            f"{path} was written by Potstill {value.get('version', 'of a newer format')}, which is newer than "
            "this one; update Potstill to read it."
        )


def folder_of(runs_dir: Path, name: str, fingerprint: str) -> Path:
    """Where a run lives: the folder that carries its fingerprint, whatever its label; else the one to be made."""
    for folder in sorted(runs_dir.glob(f"*-{fingerprint[:SHORT]}")):
        if Record(folder).fingerprint in ("", fingerprint):
            return folder
    label = "".join(c if c.isalnum() or c in "._" else "-" for c in name).strip("-") or "run"
    return runs_dir / f"{label}-{fingerprint[:SHORT]}"


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        UserError: a file stands in the way, or the place cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} cannot be a folder: a file stands in the way; name another place.") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); name a place that can be written.") from None


class Busy(UserError):
    """Another process is training in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"Another process is training in {folder}; wait for it, or end it first.")
        self.folder = folder


@contextmanager
def held(folder: Path) -> Generator[None, None, None]:
    """Hold a run folder while training in it, so that no second process writes there; a kill lets go of it.

    Raises:
        Busy: another process holds it.
    """
    with open(folder / LOCK, "w") as file:
        for patience in range(_TRIES, -1, -1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patience:
                    raise Busy(folder) from None
                time.sleep(0.02)  # It may be one who only asks, see `is_held`.
        yield


def wait(folder: Path) -> None:
    """Return as soon as no other process trains in a folder."""
    with open(folder / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def is_held(folder: Path) -> bool:
    """Whether a process trains in a run folder now; asking takes its lock for a moment, as many may at a time."""
    try:
        with open(folder / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
