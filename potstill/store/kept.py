"""What one network said of whole splits, a turn at a time: in memory, and in its store where there is one."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from potstill.data import Resident, Split, Views, views_at
from potstill.store.sheets import gather
from potstill.store.shelf import Kind, Shelf, addressed
from potstill.store.storage import Store
from potstill.types import Batch

CHUNK = 500
"""Images per pass outside training; fixed, because another size of batch may give other bits."""

REMEMBERED = 2**29
"""Bytes that may be kept in memory of the turns of one kind, of those that the present batch needs at the least."""

Say = Callable[[Batch, Sequence[Kind], bool], list[Tensor]]
"""What the network says of a chunk, (n, values) of each kind; and whether that is only to be compared."""


class Kept:
    """Rows of values for each image of a split at a turn of its walk."""

    def __init__(self, resident: Resident, walk: Views | None, store: Store | None, say: Say):
        self._resident = resident
        self._walk = walk
        self._store = store
        self._say = say
        self._turns: dict[tuple[str, int, Kind], Tensor] = {}
        self._shelves: dict[tuple[str, Kind], Shelf] = {}

    def prepare(self, split: Split, turn: int, kinds: Sequence[Kind], beside: int = 0) -> None:
        """See to it that `at` finds these kinds: what is missing is asked for together.

        Args:
            split: The split.
            turn: Of its walk.
            kinds: What is wanted.
            beside: How many turns that came last have to stay.
        """
        place = self._place(split, turn)
        missing = [kind for kind in kinds if (split.name, place, kind) not in self._turns]
        for kind in missing:
            self._forget(split, kind, beside)
        if missing:
            for kind, values in zip(missing, self._gathered(split, place, missing), strict=True):
                self._turns[split.name, place, kind] = values

    def at(self, split: Split, turn: int, kind: Kind) -> Tensor:
        """What was prepared, (N, values), by place in the split."""
        return self._turns[split.name, self._place(split, turn), kind]

    def keeps(self, split: Split) -> bool:
        """Whether anything that is said of a split is there for later runs."""
        return any(shelf.keeps for (name, _), shelf in self._shelves.items() if name == split.name)

    def _walk_of(self, split: Split) -> Views | None:
        return self._walk if split is self._resident.train else None

    def _place(self, split: Split, turn: int) -> int:
        walk = self._walk_of(split)
        return 0 if walk is None else turn % walk.count

    def _forget(self, split: Split, kind: Kind, beside: int) -> None:
        """Before another turn comes: of each kind the first that fit stay, and the last few."""
        turns = [key for key in self._turns if key[0] == split.name and key[2] == kind]
        size = sum(self._turns[key].nbytes for key in turns)
        while size > REMEMBERED and len(turns) > beside:
            size -= self._turns.pop(turns.pop(-1 - beside)).nbytes

    def _gathered(self, split: Split, place: int, kinds: Sequence[Kind]) -> list[Tensor]:
        """Every image of a split, in chunks, or out of the store."""
        walk = self._walk_of(split)
        view = views_at(walk, split, place)

        def ask(start: int, wanted: Sequence[Kind], checking: bool) -> list[Tensor]:
            return self._say(chunk(self._resident, split, start, view), wanted, checking)

        if self._store is not None and addressed(walk):
            found = gather([self._shelf(self._store, split, walk, kind) for kind in kinds], place, ask)
            if found is not None:
                return found
        whole: list[Tensor] = []
        for start in range(0, len(split), CHUNK):
            told = ask(start, kinds, False)
            whole = whole or [each.new_empty(len(split), each.shape[1]) for each in told]
            for all_of_it, each in zip(whole, told, strict=True):
                all_of_it[start : start + CHUNK] = each
        return whole

    def _shelf(self, store: Store, split: Split, walk: Views | None, kind: Kind) -> Shelf:
        if (split.name, kind) not in self._shelves:
            self._shelves[split.name, kind] = Shelf(store, split, walk, self._resident.augment, CHUNK, kind)
        return self._shelves[split.name, kind]


def chunks(resident: Resident, split: Split, walk: Views | None = None, turn: int = 0) -> Iterator[Batch]:
    """A split in its own order, in batches of `CHUNK`, made as they are asked for; augmented where a walk is given."""
    view = views_at(walk, split, turn)
    for start in range(0, len(split), CHUNK):
        yield chunk(resident, split, start, view)


def chunk(resident: Resident, split: Split, start: int, view: Tensor | None) -> Batch:
    """The images of a split from `start` on, each as the view that it shows."""
    rows = torch.arange(start, min(start + CHUNK, len(split)), device=split.labels.device)
    return resident.batch(split, rows, None if view is None else view[rows])
