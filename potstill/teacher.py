"""Where the teacher's trace comes from: a frozen network, asked once per batch for a whole cohort."""

import abc
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from potstill.codec import digest, encode
from potstill.data import Resident, Split, Views, views_at
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.models import Network, aliases, build
from potstill.taps import trace
from potstill.types import Batch, Trace

CHUNK = 500
"""Images per pass outside training; fixed, because another size of batch may give other bits."""

REMEMBERED = 2**29
"""Bytes that a cohort may keep of its teacher's logits; more views than fit are asked of the network at every step."""

GATE = 2_000
"""Training images on which a teacher is judged where there is no validation split: the first so many."""


@dataclass(frozen=True)
class Teacher(abc.ABC):
    """The specification of an outside teacher: frozen, never in a checkpoint, shared by all who name it."""

    @property
    @abc.abstractmethod
    def network(self) -> Network:
        """Which network it is."""

    @abc.abstractmethod
    def identity(self) -> str:
        """What tells it from every other teacher, weights included."""

    @abc.abstractmethod
    def load(self, runs_dir: Path) -> nn.Module:
        """The network with its weights, on the CPU."""


@dataclass(frozen=True)
class Given(Teacher):
    """A trained network that the caller holds."""

    given: Network

    @property
    def network(self) -> Network:
        """The given network."""
        return self.given

    def identity(self) -> str:
        """The hash of its weights and class."""
        return digest(encode(self.given))

    def load(self, runs_dir: Path) -> nn.Module:
        """A copy of the given module."""
        return build(self.given)


class Source:
    """A teacher at work: (batch, split, taps) → trace, under `no_grad`, in evaluation mode at every pass.

    Logits are computed once for each view that images show, in large batches, and looked up ever after, as long as
    all of them fit `REMEMBERED` bytes: one view without augmentation, `--views V` of them with it.
    """

    def __init__(self, network: nn.Module, resident: Resident, machine: Machine, walk: Views | None = None):
        self.network = machine.place(network).requires_grad_(False)
        self._resident = resident
        self._walk = walk
        self._machine = machine
        self._tracer = trace(self.network, aliases=aliases(network), compile=machine.compile)
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

    def __call__(self, batch: Batch, split: Split, taps: Sequence[str] = (), turns: tuple[int, ...] = (0,)) -> Trace:
        """The trace of a batch drawn from `split`; float32 logits, (N, K).

        Args:
            batch: What was drawn.
            split: Where from.
            taps: The activations that are asked for.
            turns: How far along their walks the images of each equal part of the batch are (see `Draw.turns`).
        """
        if split is self._resident.train and not self.remembers:
            return self._ask(batch, taps)
        # Looked up beside taps too: another size of batch may give other bits, and a student's must not hang on
        # whether a companion asks for taps.
        parts = zip(turns, batch.index.chunk(len(turns)), strict=True)
        logits = torch.cat([self.answers(split, turn)[index] for turn, index in parts])
        return Trace(logits, self._ask(batch, taps).taps if taps else {})

    @torch.no_grad()
    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """The logits of every image of a split at one turn of its walk, (published images, K), by index."""
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

    def accuracy(self) -> tuple[float, int, float]:
        """How good the teacher is on data that chooses nothing: its accuracy, the number of images, and chance.

        The images are the validation split, or the first 2,000 of the training split where there is none. Chance is
        the share of the commonest label.
        """
        split = self._resident.validation or head(self._resident.train, GATE)
        logits = torch.cat([self._ask(batch, ()).logits for batch in chunks(self._resident, split)])
        right = (logits.argmax(1) == split.labels).float().mean().item()
        chance = split.labels.bincount().max().item() / len(split)
        return right, len(split), chance

    @torch.no_grad()
    def _ask(self, batch: Batch, taps: Sequence[str]) -> Trace:
        self.network.eval()
        self.passes += 1
        with self._machine.autocast():
            answer = self._tracer(batch.inputs, taps)
        return Trace(answer.logits.float(), answer.taps)


def head(split: Split, count: int) -> Split:
    """The first `count` images of a split, as a split of their own."""
    return Split(f"{split.name}[:{count}]", split.images[:count], split.labels[:count], split.index[:count])


def chunks(resident: Resident, split: Split, walk: Views | None = None, turn: int = 0) -> Iterator[Batch]:
    """A split in its own order, in batches of `CHUNK`, made as they are asked for; augmented where a walk is given."""
    view = views_at(walk, split, turn)
    for start in range(0, len(split), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(split)), device=split.labels.device)
        yield resident.batch(split, rows, None if view is None else view[rows])


def gate(source: Source, at_least: float | None) -> tuple[float, str]:
    """Judge a teacher before it teaches: its accuracy, and the line that says so.

    Args:
        source: The teacher.
        at_least: The accuracy that it must reach; None asks only for better than chance, by four standard errors, or
            by half of what there is above chance where images are so few that this is less.

    Raises:
        UserError: it is at chance, or below `at_least`.
    """
    accuracy, count, chance = source.accuracy()
    line = f"teacher: {accuracy:.2%} on {count:,} images"
    if accuracy <= chance + min(4 * math.sqrt(chance * (1 - chance) / count), (1 - chance) / 2):
        raise UserError(
            f"The teacher is at chance ({accuracy:.2%} on {count:,} images, guessing gives {chance:.2%}); "
            "check that its weights were loaded, and that its classes and normalisation are those of the data."
        )
    if at_least is not None and accuracy < at_least:
        raise UserError(
            f"The teacher reaches {accuracy:.2%} on {count:,} images, below the {at_least:.2%} asked for with "
            "--teacher-at-least; give it a better one, or ask for less."
        )
    return accuracy, line
