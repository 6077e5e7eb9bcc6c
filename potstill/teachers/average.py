"""The average of the student's own weights as its teacher."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from potstill import ranks
from potstill.codec import digest
from potstill.data import Resident
from potstill.errors import UserError
from potstill.models import aliases
from potstill.sight import look
from potstill.taps import trace
from potstill.teachers.inside import Inside
from potstill.teachers.teacher import Teacher
from potstill.types import Batch, Trace


@dataclass(frozen=True)
class EMA(Teacher):
    """The average of the student's own weights over its steps.

    Antti Tarvainen, Harri Valpola: Mean teachers are better role models. NIPS 2017, arXiv:1703.01780.

    Attributes:
        decay: Of the average, once as many steps were taken as it needs: min(1 − 1/(step + 1), decay).
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"The decay of the averaged student is {self.decay:g}; expected a share from 0 to below 1.")

    @property
    def outside(self) -> bool:
        """It is part of the training."""
        return False

    @property
    def passes_beside(self) -> int:
        """The average's own."""
        return 1

    def identity(self) -> str:
        """The hash of the decay."""
        return digest({"ema": self.decay})

    def accompany(self, student: nn.Module, resident: Resident, *, companions: bool) -> Inside:
        """The average, which begins as the student does."""
        return Average(student, self.decay, resident.classes)


class Average(Inside):
    """The student's weights, averaged over its steps, and its statistics with them; what is counted is as it is now."""

    def __init__(self, student: nn.Module, decay: float, classes: int):
        super().__init__()
        self.network = deepcopy(student).requires_grad_(False)
        self._decay = decay
        self._classes = classes
        self._run = ranks.divided(trace(self.network, aliases=aliases(student)))

    def look(self, taps: Sequence[str], shape: tuple[int, int, int]) -> Trace:
        """The student's own."""
        return look("teacher", self.network, taps, shape, self._classes)

    @torch.no_grad()
    def answer(self, batch: Batch, taps: Sequence[str]) -> Trace:
        """In evaluation mode."""
        self.network.eval()
        answer = self._run(batch.inputs, tuple(taps))
        return Trace(answer.logits.float(), answer.taps)

    @torch.no_grad()
    def advance(self, student: nn.Module, batch: Batch, logits: Tensor, step: int) -> None:
        """Decay · average + (1 − decay) · student, where decay rises as 1 − 1/(step + 2) until it is reached."""
        decay = min(1 - 1 / (step + 2), self._decay)
        for own, theirs in zip(_values(self.network), _values(student), strict=True):
            if own.is_floating_point():
                own.lerp_(theirs, 1 - decay)
            else:
                own.copy_(theirs)


def _values(network: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers; what two modules share is there once."""
    yield from network.parameters()
    yield from network.buffers()
