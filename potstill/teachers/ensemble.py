"""Several teachers that speak as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from potstill.codec import digest
from potstill.data import Resident, Split
from potstill.errors import UserError, expect_all
from potstill.models import Network
from potstill.reading import Reading
from potstill.teachers.source import Live, Source, Turns
from potstill.teachers.teacher import Surroundings, Teacher
from potstill.types import Batch, Trace

if TYPE_CHECKING:
    from potstill.run import Run


@dataclass(frozen=True)
class Ensemble(Teacher):
    """Several outside teachers, of any architectures, that speak as one: the weighted mean of their logits.

    Terms that weigh them anew for every image look at each one's own trace (`Trace.members`). A tap names its member by
    place: `0/stage3`.

    Attributes:
        teachers: Two or more.
        weights: One each, to be divided by their sum; empty for equal ones.
    """

    teachers: tuple[Teacher, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        held = "teachers: Given(Network.given(module, classes)) makes one of a module that you hold"
        expect_all(self.teachers, Teacher, "The ensemble was given", held)
        expect_all(self.weights, float | int, "The ensemble's weights are", "numbers, one each")
        if len(self.teachers) < 2:
            raise UserError(f"The ensemble has {len(self.teachers)} teachers; give it at least two.")
        if any(not teacher.outside for teacher in self.teachers):
            raise UserError("An ensemble takes outside teachers only: trained networks and what is made of them.")
        if any(teacher.sample is not None for teacher in self.teachers):
            raise UserError("A member of the ensemble is Sampled, but its mean is of whole answers; give it as it is.")
        if len({frozenset[int]() if reading is None else reading.missing for reading in self.readings}) > 1:
            raise UserError(
                "The teachers of an ensemble lack different classes, so they have no mean; give it teachers that know "
                "the same ones."
            )
        fit = len(self.weights) == len(self.teachers) and all(w > 0 for w in self.weights)
        if self.weights and not (fit and math.isfinite(sum(self.weights))):
            raise UserError(
                f"The ensemble of {len(self.teachers)} teachers has the weights {self.weights}; expected one each, > 0 "
                "and finite."
            )

    @property
    def networks(self) -> tuple[Network, ...]:
        """All members'."""
        return tuple(network for teacher in self.teachers for network in teacher.networks)

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """All members'."""
        return tuple(reading for teacher in self.teachers for reading in teacher.readings)

    @property
    def runs(self) -> "tuple[Run, ...]":
        """All members'."""
        return tuple(run for teacher in self.teachers for run in teacher.runs)

    def identity(self) -> str:
        """The hash of the members' and the weights."""
        return digest({"ensemble": [teacher.identity() for teacher in self.teachers], "weights": list(self.weights)})

    def open(self, around: Surroundings) -> Source:
        """All of them at work."""
        weights = self.weights or (1.0,) * len(self.teachers)
        shares = [weight / sum(weights) for weight in weights]
        return Choir([teacher.open(around) for teacher in self.teachers], shares, around.resident)


class Choir(Source):
    """Several teachers that speak as one: the weighted mean of their logits, and each one's own trace as a member.

    A tap names its member by place: `0/stage3` is the first one's `stage3`.
    """

    def __init__(self, parts: Sequence[Source], weights: Sequence[float], resident: Resident):
        self.parts = tuple(parts)
        self.answerable = any(part.answerable for part in parts)
        self._number()
        self.network = nn.ModuleList([part.network for part in parts if part.network is not None])
        self._weights = tuple(weights)
        self._resident = resident

    def _number(self, above: str = "") -> None:
        """Call each member by its place, and those of an ensemble within by both."""
        for place, part in enumerate(self.parts, start=1):
            part.called = f"teacher {above}{place} of {len(self.parts)}"
            if isinstance(part, Choir):
                part._number(f"{above}{place}.")

    def look(self, taps: Sequence[str]) -> Trace:
        """Every member's dry run."""
        routed = self._routed(taps)
        return self._joined([part.look(own) for part, own in zip(self.parts, routed, strict=True)])

    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """Every member's answer."""
        routed = self._routed(taps)
        answers = zip(self.parts, routed, strict=True)
        return self._joined([part(batch, split, own, turns, logits=logits) for part, own in answers])

    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """The weighted mean of the members'."""
        return self._mean([part.answers(split, turn) for part in self.parts])

    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """Those of all members."""
        routed = zip(self.parts, self._routed(taps), strict=True)
        return sum(part.passes_per_view(turns, own, logits=logits) for part, own in routed)

    def networks(self, taps: Sequence[str]) -> list[tuple[Live, tuple[str, ...]]]:
        """The members'."""
        routed = zip(self.parts, self._routed(taps), strict=True)
        return [network for part, own in routed for network in part.networks(own)]

    def _routed(self, taps: Sequence[str]) -> list[list[str]]:
        routed: list[list[str]] = [[] for _ in self.parts]
        for tap in taps:
            place, slash, own = tap.partition("/")
            if not (slash and place.isdecimal() and int(place) < len(self.parts)):
                raise UserError(
                    f"The teacher is an ensemble of {len(self.parts)}, which has no tap {tap!r}; name a member by its "
                    f"place: '0/{own or tap}' is the first one's."
                )
            routed[int(place)].append(own)
        return routed

    def _joined(self, answers: Sequence[Trace]) -> Trace:
        taps = {f"{place}/{tap}": value for place, answer in enumerate(answers) for tap, value in answer.taps.items()}
        return Trace(self._mean([answer.logits for answer in answers]), taps, tuple(answers))

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(logits[0])
        for weight, each in zip(self._weights, logits, strict=True):
            total = total + weight * each
        return total
