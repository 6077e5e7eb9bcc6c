"""One turn of a walk in a store: read where it is there, computed and written where it is not."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from potstill.store.shelf import Kind, Mask, Shelf, bytes_of

Ask = Callable[[int, Sequence[Kind], bool], list[Tensor]]
"""What is wanted of the chunk that begins at an image, (n, values) each, in a type that is kept; and whether it is only
to be compared."""


class Sheet:
    """What a shelf holds at one turn of the walk, and what the network said since.

    Attributes:
        stored: What was there, (N, values); None where nothing was.
        whole: Which rows were.
        answers: All that is known by now.
    """

    def __init__(self, shelf: Shelf, turn: int):
        self.shelf = shelf
        self._places = shelf.places(turn)
        self.stored, self.whole = shelf.read(self._places)
        self.answers = None if self.stored is None else self.stored.to(shelf.split.labels.device)
        self._written = 0
        self._writing = 0.0

    def lacks(self, part: slice) -> bool:
        """Whether an image of a chunk is missing: then the whole chunk is computed, each where it always stands."""
        return not self.whole[part].all()

    def check(self, part: slice, told: Tensor, seconds: float) -> None:
        """Compare a chunk with what the network says now, to the last bit."""
        assert self.stored is not None
        self.shelf.agree(_same(self.stored[part], told), seconds)

    def take(self, part: slice, told: Tensor, copy: Tensor) -> None:
        """Keep what the network says of a chunk; `copy` is the same on the CPU."""
        self._compare(part, copy)
        if self.answers is None:
            self.answers = told.new_empty(len(self._places), told.shape[1])
        self.answers[part] = told
        began = time.perf_counter()
        lost = ~self.whole[part]
        self.shelf.write(self._places[part][lost], copy[torch.from_numpy(lost)])
        self._writing += time.perf_counter() - began
        self._written += len(lost)

    def end(self) -> None:
        """Log what was written."""
        if self._written and self.shelf.keeps:
            self.shelf.log(rows=self._written, writing=self._writing)

    def _compare(self, part: slice, told: Tensor) -> None:
        """Rows that are there beside missing ones were computed anew with them, so they are compared as well."""
        if self.stored is not None and (self.stored.dtype, self.stored.shape[1]) != (told.dtype, told.shape[1]):
            self.shelf.agree(np.zeros(len(told), dtype=np.bool_), 0.0)
            self.stored = self.answers = None
        elif self.stored is not None and self.whole[part].any():
            same = _same(self.stored[part], told)[self.whole[part]]
            if not same.all():
                self.shelf.agree(same, 0.0)


def gather(shelves: Sequence[Shelf], turn: int, ask: Ask) -> list[Tensor] | None:
    """What the network says of every image of a split at a turn of its walk, (N, values) of each kind.

    What is missing of a chunk is asked for together, in one pass.

    Args:
        shelves: One for each kind, of one split and store.
        turn: Of the walk.
        ask: Computes a chunk.

    Returns:
        None where the store cannot be used, or turned out not to be this network's.
    """
    store = shelves[0].store
    sheets = [Sheet(shelf, turn) for shelf in shelves]
    _check(sheets, turn, ask)
    asked, asking = 0, 0.0
    for part in shelves[0].parts:
        due = [sheet for sheet in sheets if sheet.lacks(part)]
        if due and not store.usable:
            return None
        if due:
            began = time.perf_counter()
            told = ask(part.start, [sheet.shelf.kind for sheet in due], False)
            copies = [each.cpu() for each in told]  # It waits for the device, so that the time is that of the pass.
            asking += time.perf_counter() - began
            asked += len(copies[0])
            for sheet, each, copy in zip(due, told, copies, strict=True):
                sheet.take(part, each, copy)
    if asked and any(shelf.keeps for shelf in shelves):
        store.log(split=shelves[0].split.name, rows=asked, asking=asking)
    for sheet in sheets:
        sheet.end()
    return [sheet.answers for sheet in sheets if sheet.answers is not None] if store.usable else None


def _check(sheets: Sequence[Sheet], turn: int, ask: Ask) -> None:
    """Compare a chunk of each, in one pass for those of whom it is the same chunk."""
    due: dict[int, list[tuple[Sheet, slice]]] = {}
    for sheet in sheets:
        there = [] if sheet.stored is None else [part for part in sheet.shelf.parts if not sheet.lacks(part)]
        if (part := sheet.shelf.to_check(there, turn)) is not None:
            due.setdefault(part.start, []).append((sheet, part))
    for start, alike in due.items():
        began = time.perf_counter()
        told = ask(start, [sheet.shelf.kind for sheet, _ in alike], True)
        for (sheet, part), each in zip(alike, told, strict=True):
            sheet.check(part, each.cpu(), time.perf_counter() - began)
            began = time.perf_counter()  # The pass counts for the first.


def _same(stored: Tensor, told: Tensor) -> Mask:
    """Which rows are equal to the last bit, (n,)."""
    if stored.shape != told.shape or stored.dtype != told.dtype:
        return np.zeros(len(told), dtype=np.bool_)
    return (bytes_of(stored) == bytes_of(told)).all(1)
