"""Marks of processes that work on something together: a file that each holds, and that a kill lets go of."""

import fcntl
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from potstill import record


class Mark:
    """This process's file in a folder, held for as long as it lives."""

    def __init__(self, folder: Path):
        record.make_folder(folder)
        self.name = uuid.uuid4().hex
        self._folder = folder
        self._file = open(folder / self.name, "w")  # noqa: SIM115 (held until the end, not for a block)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def close(self, *, forget: bool) -> None:
        """Let go; forget the name too, unless something is still under way in it."""
        if forget:
            (self._folder / self.name).unlink(missing_ok=True)
        self._file.close()

    @contextmanager
    def inherited(self, name: str) -> Generator[bool, None, None]:
        """Whether another process has died here; until the block ends nobody else is told; then its mark is gone."""
        path = self._folder / name
        if not path.exists():  # It works elsewhere, or is done.
            yield False
            return
        with open(path, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
            path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, what: str) -> Generator[None, None, None]:
    """Do something while no other process does the same in a folder; others wait."""
    record.make_folder(folder)
    with open(folder / what, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
