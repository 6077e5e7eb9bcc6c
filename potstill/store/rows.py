"""A file of rows at addresses, each under a seal over its values and its address: what is not whole is not there.

    byte 0     one page: a JSON object that says what the file is, and spaces
    byte 4096  row 0: its values, zeros up to whole words of 32 bits, a seal of 64 bits; then row 1, …

Rows that were never written are holes, which take no space. There are no locks: any number of processes may write the
same rows with the same bytes at once, and one that is killed in the middle of a row leaves a row without a seal.
"""

import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from potstill.codec import digest
from potstill.data.order import mix
from potstill.record import Json

PAGE = 4096
_BLOCK = 2**20  # Bytes that are looked at together, so that checking them takes no more than a processor's cache.
_STEP = np.uint64(0x9E3779B97F4A7C15)

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


def head_of(path: Path) -> Json | None:
    """What a file says that it is; None where there is none or it was cut short, {} where that cannot be read."""
    try:
        with open(path, "rb") as file:
            page = file.read(PAGE)
    except FileNotFoundError:
        return None
    if len(page) < PAGE:
        return None
    try:
        head = json.loads(page)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return cast(Json, head) if isinstance(head, dict) else {}


class Rows:
    """Rows of one length in one file, which is made when the first is written.

    The seal is splitmix64's finisher over a sum of the words, each times an odd number of its own place in the row,
    and a number of the row's own address: a word that was altered, and a row that stands in another's place, are always
    noticed; any other damage but for one time in 2⁶⁴. The numbers follow from the head, so that a row of another file
    is none of this one.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], width: int):
        """Rows of `width` bytes of values each, in a file that begins with `head`, which must fit a page."""
        self._path = path
        self._page = json.dumps(dict(head)).encode().ljust(PAGE)
        assert len(self._page) == PAGE
        self._width = width
        self._words = -(-width // 4)
        seed = np.uint64(int(digest(dict(head))[:16], 16))
        numbers = mix(seed + np.arange(1, self._words + 2, dtype=np.uint64) * _STEP)
        self._start, self._factors = numbers[:1], numbers[1:] | np.uint64(1)

    @property
    def size(self) -> int:
        """Bytes of a row on disk."""
        return 4 * self._words + 8

    @property
    def _span(self) -> int:
        """Rows that are looked at together."""
        return max(_BLOCK // self.size, 1)

    def read(self, places: Places) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """The values of the rows at these addresses, (N, width), and which of them are whole, (N,).

        Raises:
            OSError: the file is there and cannot be read.
        """
        values = np.zeros((len(places), self._width), dtype=np.uint8)
        whole = np.zeros(len(places), dtype=np.bool_)
        with _opened(self._path, os.O_RDONLY) as file:
            for start in range(0, 0 if file is None else len(places), self._span):
                here = slice(start, start + self._span)
                assert file is not None
                values[here], whole[here] = self._block(file, places[here])
        return values, whole

    def write(self, places: Places, values: Bytes) -> None:
        """Write rows, with `pwrite`, so that a full disk is an error and no signal.

        Raises:
            OSError: the disk is full, the folder is gone, or the like; what was written before stays.
        """
        block = np.zeros((len(places), self.size), dtype=np.uint8)
        block[:, : self._width] = values
        words = block.view(np.uint32)
        words[:, self._words :].view(np.uint64)[:, 0] = self._seals(words, places)
        with _opened(self._path, os.O_RDWR | os.O_CREAT) as file:
            assert file is not None
            if os.fstat(file).st_size < PAGE:
                _write(file, self._page, 0)
            for first, last in _together(places):
                _write(file, block[first:last].tobytes(), PAGE + int(places[first]) * self.size)

    def count(self) -> int:
        """How many rows of the file are whole."""
        length = self._path.stat().st_size - PAGE
        addresses = np.arange(-(-length // self.size), dtype=np.int64)
        step = self._span
        parts = (addresses[start : start + step] for start in range(0, len(addresses), step))
        return sum(int(self.read(part)[1].sum()) for part in parts)

    def _block(self, file: int, places: Places) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        block = np.zeros((len(places), self.size), dtype=np.uint8)
        for first, last in _together(places):
            os.preadv(file, [block[first:last].reshape(-1).data], PAGE + int(places[first]) * self.size)
        words = block.view(np.uint32)
        sealed = words[:, self._words :].view(np.uint64)[:, 0]
        return block[:, : self._width], sealed == self._seals(words, places)

    def _seals(self, words: npt.NDArray[np.uint32], places: Places) -> npt.NDArray[np.uint64]:
        """Of rows of words, (N,); never 0, so that a hole is no row."""
        own = mix(self._start + places.astype(np.uint64) * _STEP)
        step = self._span
        blocks = (words[start : start + step, : self._words] for start in range(0, len(words), step))
        total = np.concatenate([np.zeros(0, dtype=np.uint64), *(b.astype(np.uint64) @ self._factors for b in blocks)])
        return np.maximum(mix(own + total), np.uint64(1))


@contextmanager
def _opened(path: Path, flags: int) -> Generator[int | None]:
    """A file's descriptor; None where it is not there."""
    try:
        file = os.open(path, flags | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        if flags & os.O_CREAT:
            raise
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _together(places: Places) -> Iterator[tuple[int, int]]:
    """Stretches of rows that follow one another on disk, as (first, last + 1)."""
    bounds = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    return ((first, last) for first, last in pairwise(bounds) if first < last)


def _write(file: int, payload: bytes, offset: int) -> None:
    """All of it: a disk that is nearly full takes a part first."""
    left = memoryview(payload)
    while left:
        done = os.pwrite(file, left, offset)
        left, offset = left[done:], offset + done
