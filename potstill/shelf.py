"""What a store holds about one split: read where it is there, computed and written where it is not."""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from potstill import record
from potstill.codec import digest, encode
from potstill.data import SHARED, Augment, Split, Views
from potstill.rows import Bytes, Places, Rows, head_of
from potstill.seeds import fold
from potstill.store import Store, taken_by, told_size

ENDLESS = 2**16
"""An augmentation of so many views has no row for each of them: only the first of the shared walk can be kept."""

KEPT = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""The types in which logits are stored, by name."""

Ask = Callable[[int], Tensor]
"""The logits of the chunk that begins at an image, (n, outputs), in one of the types that are kept."""

Mask = npt.NDArray[np.bool_]


class Shelf:
    """The answers about one split, each in a row that image and place in the shared walk name."""

    def __init__(self, store: Store, split: Split, walk: Views | None, augment: Augment | None, chunk: int):
        """What is stored about `split`.

        Args:
            store: What it is part of.
            split: The split.
            walk: Each image's walk through its views; None where they are shown as they are.
            augment: What the views are of.
            chunk: How many images the network is asked about together.
        """
        self._store = store
        self._split = split
        self._walk = walk
        self._chunk = chunk
        self._turns = 1 if walk is None else min(walk.count, store.storage.turns)
        # Which images stand beside one another is part of it: in another batch an answer may have other bits.
        what: dict[str, Any] = {"split": split.name, "images": len(split), "chunk": chunk, "views": _views(walk)}
        what["index"] = hashlib.sha256(split.index.cpu().numpy().tobytes()).hexdigest()
        what["augment"] = None if walk is None else encode(augment)
        self._head: Mapping[str, Any] = {"store": store.key, **what}
        name = "".join(c if c.isalnum() else "-" for c in split.name).strip("-")
        self._path = store.folder / f"{name}-{digest(what)[: record.SHORT]}.rows"
        self._rows: Rows | None = None
        self._dtype = torch.float32
        self._fits: bool | None = None
        self._checked = False

    @property
    def keeps(self) -> bool:
        """Whether what is computed now is there later, as far as is known."""
        return self._store.writable and self._fits is not False

    def gather(self, turn: int, ask: Ask) -> Tensor | None:
        """What the network says of every image at a turn of its walk, (N, outputs).

        Where one image of a chunk is missing the whole chunk is computed, so that each stands where it always does.

        Args:
            turn: Of the walk.
            ask: Computes a chunk.

        Returns:
            None where the store cannot be used, or turned out not to be this network's.
        """
        places = self._places(turn)
        stored, whole = self._read(places)
        parts = [slice(start, start + self._chunk) for start in range(0, len(places), self._chunk)]
        there = [part for part in parts if whole[part].all()]
        if stored is not None and there and not self._checked:
            self._check(stored, there[fold(turn, "check") % len(there)], ask)
        answers = None if stored is None else stored.to(self._split.labels.device)
        asking = writing = 0.0
        missing = [part for part in parts if not whole[part].all()]
        for part in missing:
            if not self._store.usable:
                return None
            began = time.perf_counter()
            told = ask(part.start)
            copy = told.cpu()  # It waits for the device, so that the time is that of the pass.
            asking += time.perf_counter() - began
            self._compare(stored, whole, part, copy)
            if answers is None:
                answers = told.new_empty(len(places), told.shape[1])
            answers[part] = told
            began = time.perf_counter()
            lost = ~whole[part]
            self._write(places[part][lost], copy[torch.from_numpy(lost)])
            writing += time.perf_counter() - began
        if missing and self.keeps:
            rows = sum(len(places[part]) for part in missing)
            self._store.log(split=self._split.name, rows=rows, asking=asking, writing=writing)
        return answers if self._store.usable else None

    def _places(self, turn: int) -> Places:
        """The images' rows: those of one turn of the shared walk follow one another."""
        images = np.arange(len(self._split), dtype=np.int64)
        if self._walk is None:
            return images
        if self._walk.key == SHARED:
            return turn * len(images) + images
        index = self._split.index.cpu().numpy()
        return Views(SHARED, self._walk.available).places(index, self._walk.at(index, turn)) * len(images) + images

    def _read(self, places: Places) -> tuple[Tensor | None, Mask]:
        """The rows at these addresses, and which of them are whole; None where there is no file."""
        nothing = np.zeros(len(places), dtype=np.bool_)
        try:
            if self._store.usable and self._rows is None and (head := head_of(self._path)) is not None:
                self._take(head)
            if not self._store.usable or self._rows is None:
                return None, nothing
            began = time.perf_counter()
            values, whole = self._rows.read(places)
        except OSError as error:
            self._store.give_up(error)
            return None, nothing
        if not self._checked and whole.any():
            self._store.log(split=self._split.name, read=int(whole.sum()), reading=time.perf_counter() - began)
        return torch.from_numpy(values).view(self._dtype), whole

    def _take(self, head: Mapping[str, Any]) -> None:
        """Use the file that is there."""
        own = {key: value for key, value in head.items() if key not in ("dtype", "outputs")}
        if own != self._head or head.get("dtype") not in KEPT:
            self._store.refuse(f"holds a file that is not its own, {self._path.name}")
        else:
            self._lay_out(head["dtype"], head["outputs"])

    def _lay_out(self, dtype: str, outputs: int) -> None:
        self._dtype = KEPT[dtype]
        head = {**self._head, "dtype": dtype, "outputs": outputs}
        self._rows = Rows(self._path, head, outputs * self._dtype.itemsize)

    def _check(self, stored: Tensor, part: slice, ask: Ask) -> None:
        """Compare a chunk with what the network says now, to the last bit; once, before anything is served."""
        self._checked = True
        self._store.checks += 1
        began = time.perf_counter()
        same = _same(stored[part], ask(part.start).cpu())
        self._store.agree(self._split.name, len(same), int(same.sum()), time.perf_counter() - began)

    def _compare(self, stored: Tensor | None, whole: Mask, part: slice, told: Tensor) -> None:
        """Rows that are there beside missing ones were computed anew with them, so they are compared as well."""
        if stored is not None and (stored.dtype, stored.shape[1]) != (told.dtype, told.shape[1]):
            self._store.agree(self._split.name, len(told), 0, 0.0)
        elif stored is not None and whole[part].any():
            same = _same(stored[part], told)[whole[part]]
            if not same.all():
                self._store.agree(self._split.name, len(same), int(same.sum()), 0.0)

    def _write(self, places: Places, told: Tensor) -> None:
        if not self.keeps:
            return
        try:
            if self._rows is None:
                self._lay_out(str(told.dtype).removeprefix("torch."), told.shape[1])
            if self._fits is None:
                self._store.make()
                self._fits = self._fit()
            if self._fits:
                assert self._rows is not None
                self._rows.write(places, _bytes(told))
        except OSError as error:
            self._store.give_up(error)

    def _fit(self) -> bool:
        """Whether all rows that this training will show may be stored."""
        assert self._rows is not None
        needed = self._turns * len(self._split) * self._rows.size
        room = self._store.storage.room() + taken_by(self._path)
        if needed > room:
            views = f" in {self._turns} views" if self._turns > 1 else ""
            self._store.storage.tell(
                f"The teacher's answers about {len(self._split):,} {self._split.name} images{views} take "
                f"{told_size(needed)}, more than the {told_size(room)} that --store and the disk leave; they are not "
                "stored."
            )
        return needed <= room


def _views(walk: Views | None) -> int | None:
    """How many views of an image there are rows for; None for so many as were written."""
    return 1 if walk is None else walk.available if walk.available < ENDLESS else None


def addressed(walk: Views | None) -> bool:
    """Whether every view of a walk has a place in the walk that all runs share, within reach."""
    return walk is None or walk.available < ENDLESS or (walk.count < ENDLESS and walk.key == SHARED)


def _same(stored: Tensor, told: Tensor) -> Mask:
    """Which rows are equal to the last bit, (n,)."""
    if stored.shape != told.shape or stored.dtype != told.dtype:
        return np.zeros(len(told), dtype=np.bool_)
    return (_bytes(stored) == _bytes(told)).all(1)


def _bytes(values: Tensor) -> Bytes:
    return values.contiguous().view(torch.uint8).numpy()
