"""Convolutions of maps of a few pixels, as matrix products: the same sums, much sooner on a CPU.

Networks made for large images leave maps of 2 × 2 or 1 × 1 pixels of small ones. There nearly every output pixel sees
every input pixel, so the convolution is one dense product, and the taps of its kernel that meet nothing but the border
need not be multiplied at all.
"""

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

MOST = 4
"""Input pixels; of larger maps the dense matrix would be mostly zeros."""

Pair = tuple[int, int]


class Conv2d(nn.Conv2d):
    """A convolution that takes maps of a few pixels as one matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, h, w), as of the parent."""
        if not (self.is_plain(input) and self.is_small(input)):
            return super().forward(input)
        geometry = (tuple(input.shape[2:]), self.kernel_size, self.stride, self.padding, self.dilation)
        find = _taps if torch.compiler.is_compiling() else _kept_taps  # What is compiled keeps them itself.
        (height, width), seen, gaps = find(*cast("tuple[Pair, Pair, Pair, Pair, Pair]", geometry))
        output = _product(input, self.weight, seen, gaps).view(len(input), height, width, -1).permute(0, 3, 1, 2)
        return output if self.bias is None else output + self.bias.to(output.dtype).view(-1, 1, 1)

    def is_plain(self, input: Tensor) -> bool:
        """Whether every output channel sees every input channel, over a border of zeros."""
        zeros = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        return self.groups == 1 and zeros and input.dim() == 4

    def is_small(self, input: Tensor) -> bool:
        """Whether the maps have a few pixels only."""
        return input.shape[-2] * input.shape[-1] <= MOST


def quicken(network: nn.Module, kind: type[Conv2d] = Conv2d) -> None:
    """Make every convolution of a network one of this kind; its weights and all else stay as they are."""
    for module in network.modules():
        if type(module) is nn.Conv2d or isinstance(module, Conv2d):
            module.__class__ = kind


def _product(input: Tensor, weight: Tensor, seen: Tensor, gaps: bool) -> Tensor:
    """Every output pixel of every image, (N, h·w·O)."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
    taps = weight.permute(0, 2, 3, 1).flatten(1, 2)
    if gaps:
        taps = nn.functional.pad(taps, (0, 0, 0, 1))
    # Chosen before they are cast: the gradients of places that share a tap are added up in the weight's precision.
    chosen = taps.index_select(1, seen.flatten()).to(dtype).view(len(weight), *seen.shape, -1)
    dense = chosen.transpose(0, 1).flatten(0, 1).flatten(1)
    return input.to(dtype).permute(0, 2, 3, 1).flatten(1) @ dense.T


def _taps(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Pair, Tensor, bool]:
    """The output's size; the tap through which each of its pixels sees each input pixel, (h·w, H·W); any gaps.

    Taps are counted row by row. Where a pixel is not seen is a gap, and stands one more than the last.
    """
    rows, columns = (_along(*axis) for axis in zip(size, kernel, stride, padding, dilation, strict=True))
    gap = kernel[0] * kernel[1]
    taps = [
        [gap if up < 0 or left < 0 else up * kernel[1] + left for up in row for left in column]
        for row in rows
        for column in columns
    ]
    return (len(rows), len(columns)), torch.tensor(taps), any(gap in line for line in taps)


def _along(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    """The same along one axis, outputs × inputs; -1 where a pixel is not seen."""

    def tap(output: int, pixel: int) -> int:
        place, rest = divmod(pixel + padding - stride * output, dilation)
        return place if rest == 0 and 0 <= place < kernel else -1

    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return [[tap(output, pixel) for pixel in range(size)] for output in range(outputs)]


_kept_taps = cache(torch.inference_mode(False)(_taps))
"""The same from memory; what is kept is for gradients too, whoever asks first."""
