"""Teachers at work outside: who answers for a batch, once for a whole cohort."""

import abc
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from potstill import ranks
from potstill.data import Resident, Split, Views, views_at
from potstill.machine import Machine
from potstill.models import aliases
from potstill.reading import Reading
from potstill.shelf import ENDLESS, KEPT, Shelf, addressed
from potstill.sight import look
from potstill.store import Store
from potstill.taps import trace
from potstill.types import Batch, Trace

CHUNK = 500
"""Images per pass outside training; fixed, because another size of batch may give other bits."""

REMEMBERED = 2**29
"""Bytes that a cohort may keep in memory of a teacher's logits, of a turn at the least."""


class Source(abc.ABC):
    """A teacher at work: (batch, split, taps) → trace, under `no_grad`, in evaluation mode at every pass.

    Attributes:
        network: What terms may look at when they build what they learn; None where there is no network.
        parts: The sources that it speaks for, if it has any.
        answerable: Whether it must be better than chance: not where being wrong is its purpose.
    """

    network: nn.Module | None = None
    parts: "tuple[Source, ...]" = ()
    answerable = True

    @abc.abstractmethod
    def look(self, taps: Sequence[str]) -> Trace:
        """The trace of a dry run over two zero images.

        Raises:
            UserError: a tap lies, or the answer does not fit the data.
        """

    @abc.abstractmethod
    def __call__(self, batch: Batch, split: Split, taps: Sequence[str] = (), turns: tuple[int, ...] = (0,)) -> Trace:
        """The trace of a batch drawn from `split`; float32 logits, (N, K).

        Args:
            batch: What was drawn.
            split: Where from.
            taps: The activations that are asked for.
            turns: How far along their walks the images of each equal part of the batch are (see `Draw.turns`).
        """

    @abc.abstractmethod
    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """The logits of every image of a split at one turn of its walk, (published images, K), by index."""

    @abc.abstractmethod
    def passes_per_view(self, turns: int, tapped: bool) -> float:
        """Passes of its networks per view over so many turns, in the mean; `tapped` where activations are asked for."""


class Live(Source):
    """One network. Its logits are computed once for each view that images show, in large batches, and looked up after.

    That is so wherever views come in turns that can be named (`turns_are_named`): as many of the turns as fit
    `REMEMBERED` bytes are kept, and the two that were asked for last; all of them where there is a store. Otherwise the
    network is asked at every step, about the very batch.

    Attributes:
        asked: Batches that the network has seen.
    """

    def __init__(
        self,
        network: nn.Module,
        resident: Resident,
        machine: Machine,
        walk: Views | None = None,
        reading: Reading | None = None,
        store: Store | None = None,
    ):
        self.network = machine.place(network).requires_grad_(False)
        self.store = store
        self.asked = 0
        self._resident = resident
        self._walk = walk
        self._machine = machine
        self._reading = reading
        tracer = trace(self.network, aliases=aliases(network), compile=machine.compile)
        self._run = ranks.divided(tracer)
        self._answers: dict[tuple[str, int], Tensor] = {}
        self._shelves: dict[str, Shelf] = {}

    @property
    def checks(self) -> int:
        """Batches that the network has seen only to compare what it says with what is stored."""
        return 0 if self.store is None else self.store.checks

    @property
    def passes(self) -> int:
        """Batches that the network has seen to answer for them, for tests and reports."""
        return self.asked - self.checks

    @property
    def views(self) -> int:
        """How many views of a training image are shown before the first comes back."""
        return 1 if self._walk is None else self._walk.count

    @property
    def turns_are_named(self) -> bool:
        """Whether training images are asked about a turn at a time: there is a last view, and a turn fits."""
        there = self._walk is not None or self._resident.augment is None
        size = len(self._resident.train) * self._resident.classes * 4
        return there and self.views < ENDLESS and size <= REMEMBERED

    def look(self, taps: Sequence[str]) -> Trace:
        """The network's."""
        assert self.network is not None
        shape, classes = self._resident.shape, self._resident.classes
        if self._reading is None:
            return look("teacher", self.network, taps, shape, classes)
        answer = look("teacher", self.network, taps, self._reading.shape(shape), self._reading.outputs(classes))
        return Trace(self._reading.logits(answer.logits), answer.taps)

    def __call__(self, batch: Batch, split: Split, taps: Sequence[str] = (), turns: tuple[int, ...] = (0,)) -> Trace:
        """The network's, or what it said before."""
        if split is self._resident.train and not self.turns_are_named:
            answer = self._ask(batch, taps)
            return Trace(self._read(answer.logits), answer.taps)
        # Looked up beside taps too: another size of batch may give other bits, and a student's must not hang on
        # whether a companion asks for taps.
        parts = zip(turns, batch.index.chunk(len(turns)), strict=True)
        logits = torch.cat([self.answers(split, turn)[index] for turn, index in parts])
        return Trace(logits, self._ask(batch, taps).taps if taps else {})

    @torch.no_grad()
    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """Read or computed where they are not there yet."""
        walk = self._walk if split is self._resident.train else None
        place = 0 if walk is None else turn % walk.count
        if (split.name, place) not in self._answers:
            logits = self._read(self._gathered(split, walk, place))
            told = logits.new_zeros(int(split.index.max()) + 1, logits.shape[1])
            told[split.index] = logits
            self._answers[split.name, place] = told
            self._forget()
        return self._answers[split.name, place]

    def keeps(self, split: Split) -> bool:
        """Whether what it says of a split is there for later runs."""
        shelf = self._shelves.get(split.name)
        return shelf is not None and shelf.keeps

    def passes_per_view(self, turns: int, tapped: bool) -> float:
        """1 where it is asked at every step, less where each view is asked about once; with taps both.

        A single view counts nothing, and nothing depends on what a store held before.
        """
        if not self.turns_are_named:
            return 1.0
        return tapped + (0.0 if self._resident.augment is None else min(self.views, turns) / turns)

    def _forget(self) -> None:
        """Of the turns of training images the first that fit stay, and the last two, which one batch may need."""
        turns = [key for key in self._answers if key[0] == self._resident.train.name]
        size = sum(self._answers[key].nbytes for key in turns)
        while size > REMEMBERED and len(turns) > 2:
            size -= self._answers.pop(turns.pop(-3)).nbytes

    def _gathered(self, split: Split, walk: Views | None, place: int) -> Tensor:
        """What comes out of the network for every image of a split, (N, outputs), in chunks, or out of the store."""
        view = views_at(walk, split, place)

        def ask(start: int) -> Tensor:
            logits = self._ask(_chunk(self._resident, split, start, view), ()).logits
            return logits if logits.dtype in KEPT.values() else logits.float()

        if self.store is not None and addressed(walk):
            if split.name not in self._shelves:
                self._shelves[split.name] = Shelf(self.store, split, walk, self._resident.augment, CHUNK)
            found = self._shelves[split.name].gather(place, ask)
            if found is not None:
                return found
        return torch.cat([ask(start) for start in range(0, len(split), CHUNK)])

    def _read(self, logits: Tensor) -> Tensor:
        return logits.float() if self._reading is None else self._reading.logits(logits.float())

    @torch.no_grad()
    def _ask(self, batch: Batch, taps: Sequence[str]) -> Trace:
        """As it comes out of the network: in the type in which it was computed, before its classes are mapped."""
        assert self.network is not None
        self.network.eval()
        self.asked += 1
        inputs = batch.inputs if self._reading is None else self._reading.inputs(batch.inputs, self._resident)
        with self._machine.autocast():
            return self._run(inputs, tuple(taps))


def chunks(resident: Resident, split: Split, walk: Views | None = None, turn: int = 0) -> Iterator[Batch]:
    """A split in its own order, in batches of `CHUNK`, made as they are asked for; augmented where a walk is given."""
    view = views_at(walk, split, turn)
    for start in range(0, len(split), CHUNK):
        yield _chunk(resident, split, start, view)


def _chunk(resident: Resident, split: Split, start: int, view: Tensor | None) -> Batch:
    rows = torch.arange(start, min(start + CHUNK, len(split)), device=split.labels.device)
    return resident.batch(split, rows, None if view is None else view[rows])
