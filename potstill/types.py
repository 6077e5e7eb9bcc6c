"""What flows through the house: a batch goes in, one trace per network comes out."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor

Companion = Literal["view", "classmate"]
"""What may come along with each image of a batch, in its second half."""


class Batch(NamedTuple):
    """What was drawn for one step.

    Attributes:
        inputs: Normalised images, (N, C, H, W), floating point.
        labels: Class indices, (N,), int64.
        index: Place of each image in the *published* split, (N,), int64.
        view: Which augmentation of the image this is, (N,), int64; always 0 without augmentation.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    view: Tensor


class Trace(NamedTuple):
    """What one network said about a batch.

    Attributes:
        logits: (N, K).
        taps: The activations that were asked for, by tap path (see `potstill.taps`).
        members: What each of several said who speak as one: the teachers of an ensemble, the peers of a student.
    """

    logits: Tensor
    taps: Mapping[str, Tensor]
    members: "tuple[Trace, ...]" = ()


Pass = Callable[[Tensor, tuple[str, ...]], Trace]
"""How one network is run: inputs (N, C, H, W) and the names of taps in, its trace out."""
