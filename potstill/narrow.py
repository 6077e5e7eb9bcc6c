"""Convolutions of narrow maps, with the gradients of weights taken from images side by side: the same sums, sooner.

A CPU that multiplies tiles (AMX) takes 32 pixels of a row in one step of a sum over pixels. oneDNN gives it the rows of
an image as they are, so that of maps 8 pixels wide three quarters of the work are for nothing, and seven eighths of
maps 4 pixels wide. Images side by side, with zeros between them for the padding of both, are one wide map.
"""

from math import gcd
from typing import Any, cast

import torch
from torch import Tensor, nn

from potstill import pixels
from potstill.pixels import Pair

WIDEST = {0: 4, 128: 8}
"""Output pixels of a row, by channels from which on: of others the copies cost what the products gain."""

ABREAST = 8
"""Images side by side: enough to fill the tiles, few enough to stay in the caches."""


class Conv2d(pixels.Conv2d):
    """A convolution that learns from narrow maps in bfloat16 so; all else is as of the parent."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, h, w), as of the parent."""
        if not self._learns_from(input) or self.is_small(input):
            return super().forward(input)
        stride, padding = cast("tuple[Pair, Pair]", (self.stride, self.padding))
        input, weight = input.to(torch.bfloat16), self.weight.to(torch.bfloat16)
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        return conv2d(input, weight, bias, stride, padding)

    def _learns_from(self, input: Tensor) -> bool:
        """Whether the weights will have a gradient from these maps for which images can stand side by side."""
        if not (self.is_plain(input) and torch.is_grad_enabled() and self.weight.requires_grad and len(input) > 1):
            return False
        bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        # Then what lies between two images is as wide as the padding of one.
        centred = self.kernel_size[1] == 2 * int(self.padding[1]) + 1 and self.dilation == (1, 1)
        widest = max(most for least, most in WIDEST.items() if min(self.in_channels, self.out_channels) >= least)
        return bf16 and centred and (input.shape[3] - 1) // self.stride[1] < widest


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """The convolution of (N, C, H, W) with (O, C, k, 2p + 1), p wide padded; only its backward pass is another."""
    return cast(Tensor, _Convolution.apply(input, weight, bias, stride, padding))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.geometry = stride, padding
        return nn.functional.conv2d(input, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (input, weight), (stride, padding) = grads, ctx.saved_tensors, ctx.geometry
        to_input, _, to_bias, *_ = ctx.needs_input_grad
        of_input, _, of_bias = _backward(grad, input, weight, stride, padding, (to_input, False, to_bias))
        abreast = gcd(len(input), ABREAST)
        width = -(-(input.shape[3] + padding[1]) // stride[1])  # Of an image and the zeros behind it, in output pixels.
        wide = _abreast(grad, abreast, width), _abreast(input, abreast, width * stride[1])
        _, of_weight, _ = _backward(*wide, weight, stride, padding, (False, True, False))
        return of_input, of_weight, of_bias, None, None


def _abreast(maps: Tensor, count: int, width: int) -> Tensor:
    """(N, C, H, W) as (N / count, C, H, count · width): so many images side by side, with zeros behind each."""
    N, C, H, W = maps.shape
    wide = maps.new_zeros(N // count, H, count, width, C)
    wide[..., :W, :] = maps.permute(0, 2, 3, 1).reshape(N // count, count, H, W, C).transpose(1, 2)
    return wide.view(N // count, H, count * width, C).permute(0, 3, 1, 2)


def _backward(
    grad: Tensor, input: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of the input, the weight and the bias that are wanted."""
    geometry = stride, padding, (1, 1), False, (0, 0), 1
    return torch.ops.aten.convolution_backward(grad, input, weight, weight.shape[:1], *geometry, wanted)
