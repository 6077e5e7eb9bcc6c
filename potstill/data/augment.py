"""Augmentation by address: the view is an integer, and the augmented image a pure function of image and view."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from potstill.errors import UserError


@dataclass(frozen=True)
class Augment(ABC):
    """A numbered family of alterations of an image, applied to a whole batch on the device that holds it."""

    @abstractmethod
    def count(self, shape: tuple[int, int, int]) -> int:
        """Number of distinct views of an image of this shape (C, H, W); `UserError` if the shape does not suit."""

    @abstractmethod
    def __call__(self, images: Tensor, view: Tensor) -> Tensor:
        """The asked-for view of each image.

        Args:
            images: (N, C, H, W), uint8 or floating point.
            view: (N,), int64, each in [0, count), on the device of the images.

        Returns:
            New images of the same shape and dtype; neither argument is altered, and nothing waits for the device.
        """


@dataclass(frozen=True)
class CropFlip(Augment):
    """The H×W window at every offset within a zero border, and optionally its mirror image.

    Views count through the window's row, then its column, then the mirror: with `flip`, view `2·(row·(2p+1) + column)`
    is the plain window and the next one its mirror image. The unaltered image is one view among the others
    (row = column = p). `flip=False` gives plain shifts by up to `padding` pixels.

    Attributes:
        padding: Width p of the zero border, in pixels.
        flip: Whether each window also comes mirrored left to right.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise UserError(f"CropFlip was given padding={self.padding}; give a number of pixels of at least 0.")

    def count(self, shape: tuple[int, int, int]) -> int:
        """(2p+1)² windows, twice that with `flip`."""
        if self.padding >= min(shape[1:]):
            raise UserError(
                f"CropFlip(padding={self.padding}) would push images of {shape[1]} by {shape[2]} pixels wholly out of "
                f"the window; give a padding below {min(shape[1:])}."
            )
        return (2 * self.padding + 1) ** 2 * (2 if self.flip else 1)

    def __call__(self, images: Tensor, view: Tensor) -> Tensor:
        """The window of each image that its view names."""
        n, c, h, w = images.shape
        p, across = self.padding, 2 * self.padding + 1
        window = view // 2 if self.flip else view
        top, left = (window // across).view(n, 1), (window % across).view(n, 1)
        rows = top + torch.arange(h, device=images.device)
        columns = torch.arange(w, device=images.device).expand(n, w)
        if self.flip:
            columns = torch.where((view % 2 == 1).view(n, 1), w - 1 - columns, columns)
        place = rows.view(n, h, 1) * (w + 2 * p) + (left + columns).view(n, 1, w)
        border = pad(images, (p, p, p, p)).reshape(n, c, -1)
        return border.gather(2, place.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


@dataclass(frozen=True)
class Warp(Augment):
    """A small rotation, change of size and shift about the centre, bilinear, with zeros from beyond the edge.

    The view seeds the four amounts by an integer hash on the device, each uniform over its range, so there are 2³¹
    views and every device draws the same amounts for the same view.

    Attributes:
        rotation: Largest angle to either side, in degrees.
        scale: Largest change of size, as a share: the factor lies in [1 - scale, 1 + scale].
        shift: Largest shift along each axis, in pixels.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, value, below, unit in (
            ("rotation", self.rotation, 180.0, "degrees from 0 to 180"),
            ("scale", self.scale, 0.99, "a share from 0 to 0.99"),
            ("shift", self.shift, 1e4, "pixels from 0 to 10000"),
        ):
            if not 0 <= value <= below:
                raise UserError(f"Warp was given {name}={value}; give {unit}.")
        if self.rotation == self.scale == self.shift == 0:
            raise UserError("Warp was given neither rotation, scale nor shift; give at least one of them above 0.")

    def count(self, shape: tuple[int, int, int]) -> int:
        """2³¹, whatever the shape; a shift must leave part of the image in sight."""
        if self.shift >= min(shape[1:]):
            raise UserError(
                f"Warp(shift={self.shift}) would push images of {shape[1]} by {shape[2]} pixels wholly out of sight; "
                f"give a shift below {min(shape[1:])}."
            )
        return 2**31

    def __call__(self, images: Tensor, view: Tensor) -> Tensor:
        """Each image under the rotation, size and shift that its view draws."""
        n, _, h, w = images.shape
        angle, size, down, right = (_uniform(view, stream).view(n, 1, 1) for stream in range(4))
        angle, size = angle * (self.rotation * pi / 180), 1 + size * self.scale
        # The grid is plain arithmetic: affine_grid multiplies matrices, whose precision follows autocast and TF32.
        y = torch.arange(h, device=images.device).view(1, h, 1) - ((h - 1) / 2 + down * self.shift)
        x = torch.arange(w, device=images.device).view(1, 1, w) - ((w - 1) / 2 + right * self.shift)
        cos, sin = angle.cos() / size, angle.sin() / size
        grid = torch.stack(((cos * x + sin * y) * (2 / w), (cos * y - sin * x) * (2 / h)), dim=-1)
        work = images if images.dtype == torch.float64 else images.float()
        warped = grid_sample(work, grid.to(work.dtype), "bilinear", "zeros", align_corners=False)
        return (warped if images.is_floating_point() else warped.round_()).to(images.dtype)


def _uniform(view: Tensor, stream: int) -> Tensor:
    """(N,) float32 in [-1, 1), a fixed function of (view, stream): splitmix64 (Steele, Lea and Flood, 2014)."""
    # The published constants as signed numbers: int64 products wrap, and `>>` needs its copies of the sign cut off.
    mixed = (view * 4 + (stream + 1)) * -0x61C8864680B583EB
    mixed = (mixed ^ ((mixed >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ ((mixed >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return ((mixed >> 40) & 0xFFFFFF).float() * 2.0**-23 - 1
