"""Rows, their unit norms, products and distances: what relations between images or channels are made of.

Everything here is at least float32, also in an autocast region: in half precision a product of long rows, or the small
difference of two large ones, keeps two digits.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from potstill.term import Term, expect_teacher
from potstill.types import Trace

# In units of rounding: what two equal rows may differ by when their squared distance comes out of products.
_NOISE = 8.0


def precise(x: Tensor) -> Tensor:
    """The same numbers in float32, or as they are where that is no gain; gradients come back in the layout of `x`."""
    return laid_out(x).to(torch.promote_types(x.dtype, torch.float32))


def laid_out(x: Tensor) -> Tensor:
    """The same numbers; where they are maps that lie pixel by pixel, gradients come back so.

    Sums and means over channels give them channel by channel, and what is further back would walk memory in two orders:
    a batch norm takes seven times as long.
    """
    by_pixel = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return cast(Tensor, _ByPixel.apply(x)) if by_pixel and x.requires_grad else x


class _ByPixel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].contiguous(memory_format=torch.channels_last)


def rows(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
    """One row per image: whatever it has, flattened, in float32 at least."""
    return precise(x.flatten(1))


def row_pairs(term: Term, student: Trace, teacher: Trace | None) -> list[tuple[Tensor, Tensor]]:
    """The activations that a term compares, student first, as rows: their widths may differ.

    Raises:
        UserError: there is no teacher.
    """
    answer = expect_teacher(term, teacher)
    pairs = zip(term.student_taps, term.teacher_taps, strict=True)
    return [(rows(student.taps[ours]), rows(answer.taps[theirs])) for ours, theirs in pairs]


def unit(x: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Rows divided by their Euclidean norm; a row of zeros stays one, and what is asked of it has no gradient."""
    norm = cast(Tensor, torch.linalg.vector_norm(x, dim=dim, keepdim=True))
    return x / norm.masked_fill(norm == 0, torch.inf)


def products(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """The inner product of every row of `x` with every row of `y`."""
    with torch.autocast(x.device.type, enabled=False):
        return precise(x) @ precise(y).mT


def selectivity_gap(x: Float[Tensor, "b n d"], y: Float[Tensor, "b m d"]) -> Float[Tensor, ""]:
    """Mean (x·x′)² + mean (y·y′)² − 2 · mean (x·y)² over the pairs of rows of an image, mean over images.

    (x·y)² is the inner product of x xᵀ and y yᵀ: where rows are short, the means of these two take the place of pairs.
    """
    if x.shape[2] ** 2 <= x.shape[1] * y.shape[1]:
        ours, theirs = (products(rows.mT, rows.mT) / rows.shape[1] for rows in (x, y))
        return (ours - theirs).square().sum((1, 2)).mean()
    within, others, across = (products(a, b).square().mean() for a, b in ((x, x), (y, y), (x, y)))
    return within + others - 2 * across


def distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """‖x_i − x_j‖; exactly 0, with no gradient, on the diagonal and between rows that are equal up to rounding."""
    # Distances do not see a common shift; taken out, it takes no digits from them.
    x = precise(x) - precise(x).detach().mean(0)
    product = products(x, x)
    square = product.diagonal()  # From the diagonal, so that a row is at distance 0 from itself to the last bit.
    both = square.unsqueeze(1) + square
    squared = (both - 2 * product).clamp_min(0)
    equal = squared.detach() <= _NOISE * torch.finfo(squared.dtype).eps * both.detach()
    return squared.masked_fill(equal, 1).sqrt().masked_fill(equal, 0)


def recomputed(part: Callable[..., Tensor], *arguments: Tensor | int) -> Tensor:
    """`part` of these arguments, with nothing in between remembered: it is computed again on the way back.

    Args:
        part: A function that draws nothing at random.
        arguments: What it is given; what it finds elsewhere must not change until the way back.
    """
    # Without the promise that nothing is random the generators' states would be saved each time.
    return checkpoint(part, *arguments, use_reentrant=False, preserve_rng_state=False)
