"""How an activation lies in memory and in a store: a row for each image."""

from dataclasses import dataclass
from math import prod
from typing import Self

from torch import Tensor

from potstill.errors import UserError
from potstill.store.shelf import KEPT

AHEAD = 2**30
"""Bytes of one view of all images, in float32, above which an activation is asked for at every step."""


@dataclass(frozen=True)
class Form:
    """What one tap shows of an image.

    Attributes:
        tap: The activation.
        shape: Of one image: (C, H, W) of maps, (C,) of vectors.
        apart: Whether images can be told apart in it and its type can be kept: not where windows lie side by side.
    """

    tap: str
    shape: tuple[int, ...]
    apart: bool

    @classmethod
    def of(cls, tap: str, two: Tensor) -> Self:
        """The form of what a dry run over two images shows."""
        return cls(tap, tuple(two.shape[1:]), two.dim() > 1 and len(two) == 2 and two.dtype in KEPT.values())

    def size(self, images: int) -> int:
        """Bytes of one view of so many images, in float32."""
        return images * prod(self.shape) * 4

    def ahead(self, images: int) -> bool:
        """Whether it is asked for a turn at a time: a rule that looks at numbers alone, and never at a store."""
        return self.apart and 0 < self.size(images) <= AHEAD

    def rows(self, values: Tensor) -> Tensor:
        """Activations as rows, (N, values); maps with their channels last, as networks compute them.

        Raises:
            UserError: they are not of this form.
        """
        if tuple(values.shape[1:]) != self.shape or values.dtype not in KEPT.values():
            raise UserError(
                f"The teacher's tap {self.tap!r} is of shape {tuple(values.shape[1:])} and {values.dtype} now, "
                f"but two black images gave {self.shape}; tap an activation that is always of one shape."
            )
        return (values.permute(0, 2, 3, 1) if values.dim() == 4 else values).reshape(len(values), -1)

    def shaped(self, rows: Tensor) -> Tensor:
        """Activations that `rows` laid down."""
        if len(self.shape) != 3:
            return rows.view(len(rows), *self.shape)
        channels, height, width = self.shape
        return rows.view(len(rows), height, width, channels).permute(0, 3, 1, 2)
