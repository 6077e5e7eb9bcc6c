"""Test images as pictures, as a person sees them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from potstill.data import Resident
from potstill.png import png

LARGEST = 96
"""Pixels of the longer side; what is larger is shrunk to it."""


def picture(resident: Resident, image: int) -> bytes:
    """The PNG of a test image, by its place in the split.

    Pixels from 0 to 255 are as they were published. Floating-point images, whose normalisation is their owner's, are
    stretched from their lowest to their highest value. Of other than one or three channels the first is shown.
    """
    pixels: Tensor = resident.test.images[image].cpu()
    if pixels.dtype != torch.uint8:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / (high - low).clamp_min(1e-12) * 255
    if pixels.shape[0] != 3:
        pixels = pixels[:1]
    height, width = pixels.shape[1:]
    if max(height, width) > LARGEST:
        scale = LARGEST / max(height, width)
        size = (max(round(height * scale), 1), max(round(width * scale), 1))
        pixels = F.interpolate(pixels[None].float(), size, mode="area")[0]
    plain = pixels.float().round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return png(plain if plain.shape[2] == 3 else plain[:, :, 0])
