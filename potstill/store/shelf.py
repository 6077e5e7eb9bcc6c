"""What a store holds about one split, of one kind: a file of rows, which an image and a place in the walk name."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from potstill import record
from potstill.codec import digest, encode
from potstill.data import SHARED, Augment, Split, Views
from potstill.seeds import fold
from potstill.store.rows import Bytes, Places, Rows, head_of
from potstill.store.sampling import Sample
from potstill.store.storage import Store, taken_by, told_size

ENDLESS = 2**16
"""An augmentation of so many views has no row for each of them: only the first of the shared walk can be kept."""

KEPT = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "int16": torch.int16,
    "int32": torch.int32,
}
"""The types in which values are stored, by name: those of activations, and of drawn classes."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Kind:
    """What is kept of each image: the logits as they came out of the network, or something in their place.

    Attributes:
        tap: The activation that it is; empty for what is made of the logits.
        sample: How classes are drawn from what the logits say; None for the logits themselves.
        classes: For a sample, the output of the network that each class of the data is; empty for the same one.
    """

    tap: str = ""
    sample: Sample | None = None
    classes: tuple[int, ...] = ()

    @property
    def head(self) -> dict[str, Any]:
        """What the file says of it; nothing for logits."""
        if self.sample is None:
            return {"kind": self.name} if self.tap else {}
        return {"kind": self.name, "sample": digest({"drawn": encode(self.sample), "classes": list(self.classes)})}

    @property
    def name(self) -> str:
        """What a person calls it; empty for logits."""
        return self.tap or ("" if self.sample is None else self.sample.name)


LOGITS = Kind()


class Shelf:
    """The answers of one kind about one split, each in a row that image and place in the shared walk name."""

    def __init__(
        self, store: Store, split: Split, walk: Views | None, augment: Augment | None, chunk: int, kind: Kind = LOGITS
    ):
        """What is stored about `split`.

        Args:
            store: What it is part of.
            split: The split.
            walk: Each image's walk through its views; None where they are shown as they are.
            augment: What the views are of.
            chunk: How many images the network is asked about together.
            kind: What is kept of an image.
        """
        self.store = store
        self.kind = kind
        self.split = split
        self._walk = walk
        self._chunk = chunk
        self._turns = 1 if walk is None else min(walk.count, store.storage.turns)
        # Which images stand beside one another is part of it: in another batch an answer may have other bits.
        what: dict[str, Any] = {"split": split.name, "images": len(split), "chunk": chunk, "views": _views(walk)}
        what["index"] = hashlib.sha256(split.index.cpu().numpy().tobytes()).hexdigest()
        what["augment"] = None if walk is None else encode(augment)
        what |= kind.head
        self._head: Mapping[str, Any] = {"store": store.key, **what}
        name = "".join(c if c.isalnum() else "-" for c in f"{split.name} {kind.name}"[:80]).strip("-")
        self._path = store.folder / f"{name}-{digest(what)[: record.SHORT]}.rows"
        self._rows: Rows | None = None
        self._dtype = torch.float32
        self._fits: bool | None = None
        self._checked = False

    @property
    def keeps(self) -> bool:
        """Whether what is computed now is there later, as far as is known."""
        return self.store.writable and self._fits is not False

    @property
    def parts(self) -> list[slice]:
        """The chunks in which the network is asked."""
        return [slice(start, start + self._chunk) for start in range(0, len(self.split), self._chunk)]

    def to_check(self, there: Sequence[slice], turn: int) -> slice | None:
        """Which of the chunks that are there is to be compared with the network; once, before anything is served."""
        if self._checked or not there:
            return None
        self._checked = True
        return there[fold(turn, "check") % len(there)]

    def places(self, turn: int) -> Places:
        """The images' rows: those of one turn of the shared walk follow one another."""
        images = np.arange(len(self.split), dtype=np.int64)
        if self._walk is None:
            return images
        if self._walk.key == SHARED:
            return turn * len(images) + images
        index = self.split.index.cpu().numpy()
        return Views(SHARED, self._walk.available).places(index, self._walk.at(index, turn)) * len(images) + images

    def read(self, places: Places) -> tuple[Tensor | None, Mask]:
        """The rows at these addresses, and which of them are whole; None where there is no file."""
        nothing = np.zeros(len(places), dtype=np.bool_)
        try:
            if self.store.usable and self._rows is None and (head := head_of(self._path)) is not None:
                self._take(head)
            if not self.store.usable or self._rows is None:
                return None, nothing
            began = time.perf_counter()
            values, whole = self._rows.read(places)
        except OSError as error:
            self.store.give_up(error)
            return None, nothing
        if not self._checked and whole.any():
            self.log(read=int(whole.sum()), reading=time.perf_counter() - began)
        return torch.from_numpy(values).view(self._dtype), whole

    def _take(self, head: Mapping[str, Any]) -> None:
        """Use the file that is there."""
        own = {key: value for key, value in head.items() if key not in ("dtype", "outputs")}
        if own != self._head or head.get("dtype") not in KEPT:
            self.store.refuse(f"holds a file that is not its own, {self._path.name}")
        else:
            self._lay_out(head["dtype"], head["outputs"])

    def _lay_out(self, dtype: str, outputs: int) -> None:
        self._dtype = KEPT[dtype]
        head = {**self._head, "dtype": dtype, "outputs": outputs}
        self._rows = Rows(self._path, head, outputs * self._dtype.itemsize)

    def agree(self, same: Mask, seconds: float) -> None:
        """Take note of what a comparison gave."""
        self.store.agree(self.split.name, self.kind.name, len(same), int(same.sum()), seconds)

    def log(self, **line: Any) -> None:
        """Append a line to the store's log."""
        named = {"kind": self.kind.name} if self.kind.name else {}
        self.store.log(split=self.split.name, **named, **line)

    def write(self, places: Places, told: Tensor) -> None:
        """Store rows, unless there is no room for all that will come or the disk refuses it."""
        if not self.keeps:
            return
        try:
            if self._rows is None:
                self._lay_out(str(told.dtype).removeprefix("torch."), told.shape[1])
            if self._fits is None:
                self.store.make()
                self._fits = self._fit()
            if self._fits:
                assert self._rows is not None
                self._rows.write(places, bytes_of(told))
        except OSError as error:
            self.store.give_up(error)

    def _fit(self) -> bool:
        """Whether all rows that this training will show may be stored; if so, room is set aside for them."""
        assert self._rows is not None
        needed = self._turns * len(self.split) * self._rows.size
        storage = self.store.storage
        room = storage.room() + taken_by(self._path)
        if needed > room:
            views = f" in {self._turns} views" if self._turns > 1 else ""
            said = f"answers ({self.kind.name!r})" if self.kind.name else "answers"
            storage.tell(
                f"The teacher's {said} about {len(self.split):,} {self.split.name} images{views} take "
                f"{told_size(needed)}, more than the {told_size(room)} that --store and the disk leave; they are not "
                "stored."
            )
        else:
            storage.reserved[self._path] = needed
        return needed <= room


def _views(walk: Views | None) -> int | None:
    """How many views of an image there are rows for; None for so many as were written."""
    return 1 if walk is None else walk.available if walk.available < ENDLESS else None


def addressed(walk: Views | None) -> bool:
    """Whether every view of a walk has a place in the walk that all runs share, within reach."""
    return walk is None or walk.available < ENDLESS or (walk.count < ENDLESS and walk.key == SHARED)


def bytes_of(values: Tensor) -> Bytes:
    """Rows of values as they lie in memory, (N, bytes)."""
    return values.contiguous().view(torch.uint8).numpy()
