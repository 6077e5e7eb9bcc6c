"""How a teacher reads the student's images and names its classes, where it learned from others."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from potstill.data import Resident
from potstill.errors import UserError, expect_all

NEVER = -1e4
"""The logit of a class that a teacher does not know: a probability of 0 at any temperature in use, and finite."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is done to images before a teacher sees them, and to its logits after.

    Attributes:
        mean: Per channel, of pixels in [0, 1], as the teacher was trained; empty for the data's own.
        std: The same, standard deviation.
        size: Height and width of the images that it sees, resized bilinearly; 0 for the data's own.
        classes: For each class of the data the teacher's output that means it, or -1 where it has none: such a class
            gets the probability 0, and `only_right` leaves its images out. Empty where both lists are the same.
        known: How many outputs the teacher has; 0 where `classes` is empty.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: int = 0
    classes: tuple[int, ...] = ()
    known: int = 0

    def __post_init__(self) -> None:
        expect_all(self.mean, float | int, "The mean of a reading is", "numbers, one per channel")
        expect_all(self.std, float | int, "The std of a reading is", "numbers, one per channel")
        if len(self.mean) != len(self.std) or not (
            all(map(math.isfinite, (*self.mean, *self.std))) and all(value > 0 for value in self.std)
        ):
            raise UserError(
                f"The teacher reads with mean={self.mean} and std={self.std}; expected one finite number per channel "
                "in both, deviations above 0."
            )
        if self.size < 0:
            raise UserError(f"The teacher reads images of size {self.size}; expected a number of pixels, or 0.")
        if bool(self.classes) != bool(self.known) or not all(-1 <= place < self.known for place in self.classes):
            raise UserError(
                f"The teacher's {self.known} outputs are named by classes={self.classes}; expected for each class of "
                "the data a place among them, or -1."
            )

    @property
    def missing(self) -> frozenset[int]:
        """The classes of the data that the teacher has no output for."""
        return frozenset(place for place, output in enumerate(self.classes) if output < 0)

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of what the teacher sees.

        Raises:
            UserError: the mean has another number of channels.
        """
        if self.mean and len(self.mean) != shape[0]:
            raise UserError(
                f"The teacher reads with mean={self.mean}, of {len(self.mean)} channels, but images of the data have "
                f"{shape[0]}; give it one number per channel of the data."
            )
        return (shape[0], self.size, self.size) if self.size else shape

    def outputs(self, classes: int) -> int:
        """How many logits the teacher answers, K of the data where both lists are the same.

        Raises:
            UserError: the map names another number of classes than the data has.
        """
        if self.classes and len(self.classes) != classes:
            raise UserError(
                f"The teacher's classes map {len(self.classes)} classes but the data has {classes} classes; "
                "name one each."
            )
        return self.known or classes

    def inputs(self, inputs: Tensor, resident: Resident) -> Tensor:
        """Images normalised as the data has it, (N, C, H, W), as the teacher sees them."""
        if self.mean:
            mean, std = (inputs.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
            inputs = (inputs * resident.std + resident.mean - mean) / std
        if self.size and inputs.shape[2:] != (self.size, self.size):
            inputs = F.interpolate(inputs, (self.size, self.size), mode="bilinear", antialias=True)
        return inputs

    def logits(self, logits: Tensor) -> Tensor:
        """The teacher's logits in the order of the data's classes, (N, K)."""
        if not self.classes:
            return logits
        place = torch.tensor(self.classes, device=logits.device)
        return logits[:, place.clamp_min(0)].masked_fill(place < 0, NEVER)
