"""The Gaussian kernel over all pairs of rows, summed a few images at a time: the pairs are never all there at once.

A step over two layers of 512 channels has 100 million pairs; held, with what the way back needs of them, they take
gigabytes, and a core spends its time fetching them. Sums and gradients are taken while a block is in the cache.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from potstill.gram import precise

BLOCK = {"cpu": 2**18}
"""Pairs that are held at once: what fits a core's cache; elsewhere 2²⁶, which keep a graphics card busy."""


def gaussian_mean(
    x: Float[Tensor, "b n d"], y: Float[Tensor, "b m d"], variances: Float[Tensor, " v"]
) -> Float[Tensor, ""]:
    """Mean of exp(−‖x_i − y_j‖² / (2σ²)) over all pairs within an image, all images, and all σ².

    The gradient reaches `x` and `y`, once; none reaches the variances.

    Args:
        x: Rows of each image.
        y: Others; the very same tensor where rows are compared among themselves.
        variances: σ², each > 0.
    """
    centre = precise(x).detach().mean(1, keepdim=True)  # Distances do not see it; left in, it would take digits.
    ours = precise(x) - centre
    theirs = ours if x is y else precise(y) - centre
    return cast(Tensor, _GaussianMean.apply(ours, theirs, variances.to(ours)))


def mean_squared_distance(x: Float[Tensor, "b n d"], y: Float[Tensor, "b m d"]) -> Float[Tensor, ""]:
    """Mean of ‖x_i − y_j‖² over all pairs within an image and all images: it takes no pairs, only means."""
    centre = precise(x).detach().mean(1, keepdim=True)
    ours, theirs = precise(x) - centre, precise(y) - centre
    across = (ours.mean(1) * theirs.mean(1)).sum(1).mean()
    return ours.square().sum(2).mean() + theirs.square().sum(2).mean() - 2 * across


class _GaussianMean(torch.autograd.Function):
    """The gradient is taken on the way there, where the pairs are; the way back scales it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, variances: Tensor) -> Tensor:
        """The mean; keeps a gradient for each side that asks for one."""
        same = x is y
        wanted: bool = any(ctx.needs_input_grad[:2])
        per_block = max(1, BLOCK.get(x.device.type, 2**26) // (x.shape[1] * y.shape[1]))
        count = x.shape[0] * x.shape[1] * y.shape[1] * len(variances)
        sums: list[Tensor] = []
        slopes: list[tuple[Tensor, Tensor]] = []
        with torch.autocast(x.device.type, enabled=False):
            for a, b in zip(_blocks(x, per_block), _blocks(y, per_block), strict=True):
                apart = _squared(a, b)
                pull = torch.zeros_like(apart) if wanted else None
                for variance in variances:
                    kernel = (apart / (-2 * variance)).exp_()
                    sums.append(kernel.sum())
                    if pull is not None:
                        pull.add_(kernel.div_(variance))
                if pull is not None:
                    to_a = pull @ b - a * pull.sum(2, keepdim=True)
                    to_b = to_a if same else pull.mT @ a - b * pull.sum(1).unsqueeze(2)
                    slopes.append((to_a / count, to_b / count))
        if wanted:
            ctx.save_for_backward(*(torch.cat(side) for side in zip(*slopes, strict=True)))
        return torch.stack(sums).sum() / count

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        """Scaled; rows that stand on both sides get both parts."""
        to_x, to_y = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        return grad_outputs[0] * to_x, grad_outputs[0] * to_y, None


def _blocks(x: Tensor, images: int) -> tuple[Tensor, ...]:
    return cast("tuple[Tensor, ...]", x.split(images))  # pyright: ignore[reportUnknownMemberType]


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² ≥ 0 of a few images, (images, n, m)."""
    long_a, long_b = a.square().sum(2), b.square().sum(2)
    return torch.baddbmm(long_a.unsqueeze(2) + long_b.unsqueeze(1), a, b.mT, alpha=-2).clamp_min_(0)
