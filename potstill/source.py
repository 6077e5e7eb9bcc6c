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
from potstill.sight import look
from potstill.taps import trace
from potstill.types import Batch, Trace

CHUNK = 500
"""Images per pass outside training; fixed, because another size of batch may give other bits."""

REMEMBERED = 2**29
"""Bytes that a cohort may keep of a teacher's logits; more views than fit are asked of the network at every step."""


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

    They are kept as long as all of them fit `REMEMBERED` bytes: one view without augmentation, `--views V` with it.
    """

    def __init__(
        self,
        network: nn.Module,
        resident: Resident,
        machine: Machine,
        walk: Views | None = None,
        reading: Reading | None = None,
    ):
        self.network = machine.place(network).requires_grad_(False)
        self._resident = resident
        self._walk = walk
        self._machine = machine
        self._reading = reading
        tracer = trace(self.network, aliases=aliases(network), compile=machine.compile)
        self._run = ranks.divided(tracer)
        self._answers: dict[tuple[str, int], Tensor] = {}
        self.passes = 0  # Batches that the network has seen, for tests and reports.

    @property
    def views(self) -> int:
        """How many views of a training image are shown before the first comes back."""
        return 1 if self._walk is None else self._walk.count

    @property
    def remembers(self) -> bool:
        """Whether the logits of all training views are kept."""
        addressed = self._walk is not None or self._resident.augment is None
        return addressed and self.views * len(self._resident.train) * self._resident.classes * 4 <= REMEMBERED

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
        if split is self._resident.train and not self.remembers:
            return self._ask(batch, taps)
        # Looked up beside taps too: another size of batch may give other bits, and a student's must not hang on
        # whether a companion asks for taps.
        parts = zip(turns, batch.index.chunk(len(turns)), strict=True)
        logits = torch.cat([self.answers(split, turn)[index] for turn, index in parts])
        return Trace(logits, self._ask(batch, taps).taps if taps else {})

    @torch.no_grad()
    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """Computed where they are not there yet."""
        walk = self._walk if split is self._resident.train else None
        place = 0 if walk is None else turn % walk.count
        if (split.name, place) not in self._answers:
            told: Tensor | None = None
            for batch in chunks(self._resident, split, walk, place):
                logits = self._ask(batch, ()).logits
                if told is None:
                    told = logits.new_zeros(int(split.index.max()) + 1, logits.shape[1])
                told[batch.index] = logits
            assert told is not None
            self._answers[split.name, place] = told
        return self._answers[split.name, place]

    def passes_per_view(self, turns: int, tapped: bool) -> float:
        """1 where it is asked at every step, less where it remembers."""
        if tapped or not self.remembers:
            return 1.0
        return 0.0 if self._resident.augment is None else min(self.views, turns) / turns

    @torch.no_grad()
    def _ask(self, batch: Batch, taps: Sequence[str]) -> Trace:
        assert self.network is not None
        self.network.eval()
        self.passes += 1
        inputs = batch.inputs if self._reading is None else self._reading.inputs(batch.inputs, self._resident)
        with self._machine.autocast():
            answer = self._run(inputs, tuple(taps))
        logits = answer.logits.float()
        return Trace(logits if self._reading is None else self._reading.logits(logits), answer.taps)


def chunks(resident: Resident, split: Split, walk: Views | None = None, turn: int = 0) -> Iterator[Batch]:
    """A split in its own order, in batches of `CHUNK`, made as they are asked for; augmented where a walk is given."""
    view = views_at(walk, split, turn)
    for start in range(0, len(split), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(split)), device=split.labels.device)
        yield resident.batch(split, rows, None if view is None else view[rows])
