"""Teachers that are part of one student's training: its own average, its own past. Their state is its state."""

import abc
from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from potstill import ranks
from potstill.errors import UserError
from potstill.models import aliases
from potstill.sight import look
from potstill.taps import trace
from potstill.types import Batch, Trace


class Inside(nn.Module, abc.ABC):
    """A teacher that comes about with its student; whatever it remembers is in its buffers."""

    @abc.abstractmethod
    def look(self, taps: Sequence[str], shape: tuple[int, int, int]) -> Trace:
        """The trace of a dry run over two zero images.

        Raises:
            UserError: it has no such tap.
        """

    @abc.abstractmethod
    def answer(self, batch: Batch, taps: Sequence[str]) -> Trace:
        """What it says of a batch; no gradient flows into it."""

    @abc.abstractmethod
    def advance(self, student: nn.Module, batch: Batch, logits: Tensor, step: int) -> None:
        """Go along with the student after its step number `step`, for which it gave these logits."""


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


class Past(Inside):
    """What the student said of each image when it was last drawn; before that, the label.

    Args:
        images: How many there are.
        classes: K.
        accompanied: Whether the second half of each batch came along with the drawn ones; it is not remembered.
    """

    table: Tensor
    seen: Tensor

    def __init__(self, images: int, classes: int, *, accompanied: bool = False):
        super().__init__()
        self._halves = 2 if accompanied else 1
        self.register_buffer("table", torch.zeros(images, classes, dtype=torch.float16))
        self.register_buffer("seen", torch.zeros(images, dtype=torch.bool))

    def look(self, taps: Sequence[str], shape: tuple[int, int, int]) -> Trace:
        """Logits alone."""
        if taps:
            raise UserError(
                f"The student's own past has no tap {taps[0]!r}, only logits; leave the terms out that need it."
            )
        return Trace(self.table.new_zeros(2, self.table.shape[1], dtype=torch.float32), {})

    @torch.no_grad()
    def answer(self, batch: Batch, taps: Sequence[str]) -> Trace:
        """The logits of then; those that give the label all probability where there are none."""
        said = self.table[batch.index].float()
        certain = CERTAIN * nn.functional.one_hot(batch.labels, said.shape[1]).float()
        return Trace(torch.where(self.seen[batch.index].unsqueeze(1), said, certain), {})

    @torch.no_grad()
    def advance(self, student: nn.Module, batch: Batch, logits: Tensor, step: int) -> None:
        """Remember what was said of these images."""
        limit = torch.finfo(self.table.dtype).max
        drawn, said = batch.index.chunk(self._halves)[0], logits.chunk(self._halves)[0]
        self.table[drawn] = said.clamp(-limit, limit).to(self.table.dtype)
        self.seen[drawn] = True


CERTAIN = 1e4
"""The logit of a label that stands for itself: probability 1 in float32, whatever the number of classes."""
