"""Teachers that are no single network: several that speak as one, and controls that have nothing to teach."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from potstill.data import Resident, Split
from potstill.errors import UserError
from potstill.source import Live, Source, Turns
from potstill.types import Batch, Trace


class Choir(Source):
    """Several teachers that speak as one: the weighted mean of their logits, and each one's own trace as a member.

    A tap names its member by place: `0/stage3` is the first one's `stage3`.
    """

    def __init__(self, parts: Sequence[Source], weights: Sequence[float], resident: Resident):
        self.parts = tuple(parts)
        for place, part in enumerate(parts, start=1):
            part.called = f"teacher {place} of {len(parts)}"
        self.network = nn.ModuleList([part.network for part in parts if part.network is not None])
        self._weights = tuple(weights)
        self._resident = resident

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


class Misplaced(Source):
    """A control: the right teacher's answer about another image of the batch."""

    answerable = False

    def __init__(self, right: Source):
        self.parts = (right,)
        self.network = right.network

    def look(self, taps: Sequence[str]) -> Trace:
        """The right teacher's."""
        return self.parts[0].look(taps)

    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """What the teacher says of the image before."""
        return _rolled(self.parts[0](batch, split, taps, turns, logits=logits))

    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """The right ones: what agreement is measured against."""
        return self.parts[0].answers(split, turn)

    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """The right teacher's."""
        return self.parts[0].passes_per_view(turns, taps, logits=logits)

    def networks(self, taps: Sequence[str]) -> list[tuple[Live, tuple[str, ...]]]:
        """The right teacher's."""
        return self.parts[0].networks(taps)


class Even(Source):
    """A control: every class is as likely as any other, whatever the image."""

    answerable = False

    def __init__(self, resident: Resident):
        self._resident = resident

    def look(self, taps: Sequence[str]) -> Trace:
        """Zeros; it has no activations."""
        if taps:
            raise UserError(f"The teacher is uniform and has no tap {taps[0]!r}; leave the terms out that need it.")
        return Trace(self._resident.mean.new_zeros(2, self._resident.classes), {})

    def _answer(self, batch: Batch, split: Split, taps: Sequence[str], turns: Turns, logits: bool) -> Trace:
        """Zeros."""
        return Trace(batch.inputs.new_zeros(len(batch.labels), self._resident.classes), {})

    def answers(self, split: Split, turn: int = 0) -> Tensor:
        """Zeros."""
        count = int(split.index.max()) + 1
        return self._resident.mean.new_zeros(count, self._resident.classes)

    def passes_per_view(self, turns: int, taps: Sequence[str], *, logits: bool = True) -> float:
        """None."""
        return 0.0

    def networks(self, taps: Sequence[str]) -> list[tuple[Live, tuple[str, ...]]]:
        """None."""
        return []


def _rolled(answer: Trace) -> Trace:
    taps = {tap: value.roll(1, 0) for tap, value in answer.taps.items()}
    return Trace(answer.logits.roll(1, 0), taps, tuple(map(_rolled, answer.members)))
