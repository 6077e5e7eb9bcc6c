"""Teachers at work outside: who answers for a batch, once for a whole cohort."""

import abc
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from potstill import ranks
from potstill.data import Resident, Split, Views
from potstill.machine import Machine
from potstill.models import aliases
from potstill.reading import Reading
from potstill.sight import look
from potstill.store.form import AHEAD, Form
from potstill.store.kept import REMEMBERED, Kept
from potstill.store.sampling import Sample
from potstill.store.shelf import ENDLESS, KEPT, LOGITS, Kind
from potstill.store.storage import Store, told_size
from potstill.taps import trace
from potstill.types import Batch, Trace

Turns = tuple[int, ...]


class Source(abc.ABC):
    """A teacher at work: (batch, split, taps) → trace, under `no_grad`, in evaluation mode at every pass.

    Attributes:
        network: What terms may look at when they build what they learn; None where there is no network.
        parts: The sources that it speaks for, if it has any.
        called: What a refusal calls it.
        answerable: Whether it must be better than chance: not where being wrong is its purpose.
    """

    network: nn.Module | None = None
    parts: "tuple[Source, ...]" = ()
    called = "teacher"
    answerable = True

    @abc.abstractmethod
    def look(self, taps: Sequence[str]) -> Trace:
        """The trace of a dry run over two zero images.

        Raises:
            UserError: a tap lies, or the answer does not fit the data.
        """

    def __call__(
        self,
        batch: Batch,
        split: Split,
        taps: Sequence[str] = (),
        turns: Turns = (0,),
        *,
        logits: bool = True,
    ) -> Trace:
        """The trace of a batch drawn from `split`; float32 logits, (N, K).

        Args:
            batch: What was drawn.
            split: Where from.
            taps: The activations that are asked for.
            turns: How far along their walks the images of each equal part of the batch are (see `Draw.turns`).
            logits: Whether anybody reads the logits; if not, they may be of another pass than those that are kept.
        """
        return self._answer(batch, split, taps, turns, logits)

    @abc.abstractmethod
    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """The trace that was asked for."""

    @abc.abstractmethod
    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """The logits of every image of a split at one turn of its walk, (published images, K), by index."""

    @abc.abstractmethod
    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """Passes of its networks per view over so many turns, in the mean, where these activations are asked for."""

    @abc.abstractmethod
    def networks(self, taps: Sequence[str]) -> "list[tuple[Live, tuple[str, ...]]]":
        """Every network behind it, and which of its activations are meant."""


class Live(Source):
    """One network. What it says is computed once for each view that images show, in large batches, and then looked up.

    That is so wherever views come in turns that can be named (`turns_are_named`), and for activations too of which a
    turn is not too large (`ahead`). As many turns as fit `REMEMBERED` bytes are kept, and those that were asked for
    last; all of them where there is a store. Otherwise the network is asked at every step, about the very batch.

    Attributes:
        reading: How it reads images and names classes, where that is not how the data has them.
        asked: Batches that the network has seen.
        checks: Those of them that it has seen only to compare what it says with what is stored.
    """

    def __init__(
        self,
        network: nn.Module,
        resident: Resident,
        machine: Machine,
        walk: Views | None = None,
        reading: Reading | None = None,
        store: Store | None = None,
        sample: Sample | None = None,
    ):
        self.network = machine.place(network).requires_grad_(False)
        self.store = store
        self.asked = 0
        self.checks = 0
        self._resident = resident
        self._walk = walk
        self._machine = machine
        self.reading = reading
        names = aliases(network)
        self._run = ranks.divided(trace(self.network, aliases=names, compile=machine.compile))
        # Compiled, a network may give other bits where other taps are asked for: so what is kept of them never is.
        self._eager = ranks.divided(trace(self.network, aliases=names)) if machine.compile else self._run
        self._drawn = LOGITS
        if sample is not None:
            self._drawn = Kind(sample=sample, classes=() if reading is None else reading.classes)
        self._forms: dict[str, Form] = {}
        self._kept = Kept(resident, walk, store, self._say)
        self._warned: set[str] = set()

    @property
    def passes(self) -> int:
        """Batches that the network has seen to answer for them; a store is there to make them none."""
        return self.asked - self.checks

    @property
    def views(self) -> int:
        """How many views of a training image are shown before the first comes back."""
        return 1 if self._walk is None else self._walk.count

    @property
    def turns_are_named(self) -> bool:
        """Whether training images are asked about a turn at a time: there is a last view, and a turn fits."""
        return self._views_end and self._turn <= REMEMBERED

    @property
    def _views_end(self) -> bool:
        return (self._walk is not None or self._resident.augment is None) and self.views < ENDLESS

    @property
    def _turn(self) -> int:
        """Bytes of what is kept of the logits of one turn of the training images."""
        sample = self._drawn.sample
        return len(self._resident.train) * (self._resident.classes if sample is None else sample.draws) * 4

    def look(self, taps: Sequence[str]) -> Trace:
        """The network's."""
        assert self.network is not None
        shape, classes, whose = self._resident.shape, self._resident.classes, "the data has"
        if self.reading is not None:
            shape, classes = self.reading.shape(shape), self.reading.outputs(classes)
            whose = "its Reading says that it knows" if self.reading.known else whose
        answer = look(self.called, self.network, taps, shape, classes, whose)
        self._forms |= {tap: Form.of(tap, value) for tap, value in answer.taps.items()}
        return answer if self.reading is None else Trace(self.reading.logits(answer.logits), answer.taps)

    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """The network's, or what it said before."""
        if split is self._resident.train and not self.turns_are_named:
            self._warn("", split, self._turn, REMEMBERED)
            return self._seen(batch, taps)
        ahead = [tap for tap in taps if self.ahead(tap, split)]
        live = [tap for tap in taps if tap not in ahead]
        for tap in live:
            self._warn(tap, split, self._forms[tap].size(len(split)), AHEAD)
        if live and not (ahead or logits):
            return self._seen(batch, taps)
        # Looked up beside taps too: another size of batch may give other bits, and a student's must not hang on
        # whether a companion asks for taps.
        shares = zip(turns, batch.index.chunk(len(turns)), strict=True)
        parts = [self._found(split, turn, index, ahead, len(turns) - 1) for turn, index in shares]
        asked: Mapping[str, Tensor] = self._ask(batch, live).taps if live else {}
        told = {tap: asked[tap] if tap in asked else torch.cat([part.taps[tap] for part in parts]) for tap in taps}
        return Trace(torch.cat([part.logits for part in parts]), told)

    @torch.no_grad()
    def prepare(self, split: Split, turn: int, taps: Sequence[str] = (), beside: int = 0) -> None:
        """See to it that what is said of a split at a turn of its walk is there, as far as it is asked for ahead.

        Args:
            split: The split.
            turn: Of its walk.
            taps: Activations that are wanted beside the logits.
            beside: How many turns that came last have to stay in memory.
        """
        ahead = [tap for tap in taps if self.ahead(tap, split)]
        small_first = sorted(ahead, key=lambda tap: self._forms[tap].size(1))  # They get the room that there is.
        self._kept.prepare(split, turn, [self._kind(split), *map(Kind, small_first)], beside)

    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """Read or computed where they are not there yet."""
        self.prepare(split, turn)
        logits = self._logits(self._kept.at(split, turn, self._kind(split)), split)
        told = logits.new_zeros(int(split.index.max()) + 1, logits.shape[1])
        told[split.index] = logits
        return told

    def ahead(self, tap: str, split: Split) -> bool:
        """Whether an activation is asked for a turn at a time."""
        if tap not in self._forms:
            self.look((tap,))
        return self.turns_are_named and self._forms[tap].ahead(len(split))

    def keeps(self, split: Split) -> bool:
        """Whether anything that it says of a split is there for later runs."""
        return self._kept.keeps(split)

    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """1 where it is asked at every step, less where each view is asked about once; with large activations both.

        A single view counts nothing, and nothing depends on what a store held before.
        """
        ahead = [tap for tap in taps if self.ahead(tap, self._resident.train)]
        if not self.turns_are_named or (taps and not (ahead or logits)):
            return 1.0
        once = 0.0 if self._resident.augment is None else min(self.views, turns) / turns
        return (len(ahead) < len(taps)) + once * (2 if ahead and self._machine.compile else 1)

    def networks(self, taps: Sequence[str]) -> "list[tuple[Live, tuple[str, ...]]]":
        """Itself."""
        return [(self, tuple(taps))]

    def _seen(self, batch: Batch, taps: Sequence[str]) -> Trace:
        """What it says of this very batch."""
        answer = self._ask(batch, taps)
        return Trace(self._read(answer.logits), answer.taps)

    def _kind(self, split: Split) -> Kind:
        """What is kept of the logits: of training images perhaps a sample."""
        return self._drawn if split is self._resident.train else LOGITS

    def _found(self, split: Split, turn: int, index: Tensor, taps: Sequence[str], beside: int) -> Trace:
        """What it said of some images, by their published places."""
        self.prepare(split, turn, taps, beside)
        rows = torch.searchsorted(split.index, index)  # A split is in the published order.
        logits = self._logits(self._kept.at(split, turn, self._kind(split))[rows], split)
        return Trace(logits, {t: self._forms[t].shaped(self._kept.at(split, turn, Kind(t))[rows]) for t in taps})

    def _say(self, batch: Batch, kinds: Sequence[Kind], checking: bool) -> list[Tensor]:
        """What is kept of a chunk, (n, values) of each kind."""
        before = self.asked
        taps = tuple(kind.tap for kind in kinds if kind.tap)
        answer = self._ask(batch, taps, kept=True)
        logits = answer.logits
        if taps and len(taps) < len(kinds) and self._machine.compile:
            logits = self._ask(batch, ()).logits
        self.checks += checking * (self.asked - before)
        return [
            self._forms[kind.tap].rows(answer.taps[kind.tap]) if kind.tap else self._row(kind, logits, batch)
            for kind in kinds
        ]

    def _row(self, kind: Kind, logits: Tensor, batch: Batch) -> Tensor:
        if kind.sample is not None:
            return kind.sample.drawn(self._read(logits), batch.index, batch.view)
        return logits if logits.dtype in KEPT.values() else logits.float()

    def _logits(self, rows: Tensor, split: Split) -> Tensor:
        """What rows say, (N, K), float32."""
        sample = self._kind(split).sample
        return self._read(rows) if sample is None else sample.logits(rows, self._resident.classes)

    def _read(self, logits: Tensor) -> Tensor:
        return logits.float() if self.reading is None else self.reading.logits(logits.float())

    @torch.no_grad()
    def _ask(self, batch: Batch, taps: Sequence[str], kept: bool = False) -> Trace:
        """As it comes out of the network: in the type in which it was computed, before its classes are mapped."""
        assert self.network is not None
        self.network.eval()
        self.asked += 1
        inputs = batch.inputs if self.reading is None else self.reading.inputs(batch.inputs, self._resident)
        with self._machine.autocast():
            return (self._eager if kept and taps else self._run)(inputs, tuple(taps))

    def _warn(self, tap: str, split: Split, size: int, limit: int) -> None:
        """Say once, where there is a store, what is too large for it: a turn must fit the memory."""
        if self.store is None or not self._views_end or size <= limit or tap in self._warned:
            return
        self._warned.add(tap)
        said = f"answers ({tap!r})" if tap else "answers"
        draw = "" if tap else "; give the run Sampled(right=teacher, draws=64) to keep drawn classes"
        self.store.storage.tell(
            f"The teacher's {said} about {len(split):,} {split.name} images take {told_size(size)} a view, more than "
            f"the {told_size(limit)} that is kept in memory; they are not stored, and it is asked at every step{draw}."
        )
