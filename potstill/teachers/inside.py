"""A teacher at work inside one student's training: its state is part of the training's."""

import abc
from collections.abc import Sequence

from torch import Tensor, nn

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
