"""The processes that train one cohort together, each on a device of its own.

Only the passes through networks are divided: a rank runs a network over its slice of the batch and gathers what the
others' slices gave, so that each of them holds the logits and activations of the whole batch, computes the whole
objective, and takes the same step. No term, teacher or metric knows how many ranks there are.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from os import environ
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from potstill.errors import UserError
from potstill.seeds import fold
from potstill.types import Pass, Trace

T = TypeVar("T")

SMALLEST = 2
"""Images of a slice at the least, because batch norm may have no other values to compare one with."""


@dataclass(frozen=True)
class _Place:
    """Which of how many processes this one is."""

    rank: int = 0
    count: int = 1


_here = _Place()


def join(rank: int, count: int, store: Path, device: str) -> None:
    """Make this process one of several; it waits for the others.

    Args:
        rank: Which one, from 0; the first one leads.
        count: How many there are.
        store: A file, not there yet, through which they find each other.
        device: "cuda", of which each takes its own, or "cpu".
    """
    global _here
    # One machine: nobody listens to the network, and the host's name need not be known to anybody.
    environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(rank)
        backend = "nccl"
    # A rank that died is noticed by who started it, and not by how long the others have waited.
    endless = timedelta(days=30)
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=count, timeout=endless)
    _here = _Place(rank, count)


def leave() -> None:
    """Be alone again."""
    global _here
    if _here.count > 1:
        dist.destroy_process_group()
    _here = _Place()


def count() -> int:
    """How many processes train together; 1 where this one is alone."""
    return _here.count


def leads() -> bool:
    """Whether this process is the one that writes and tells."""
    return _here.rank == 0


def agreed(value: T) -> T:
    """The leader's value, whatever it is here: for decisions that all must take alike."""
    if _here.count == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def after_leader(make: Callable[[], T]) -> T:
    """What `make` gives, made here once the leader has made its own: what is fetched is fetched once."""
    if leads():
        made = make()
        agreed(None)
        return made
    agreed(None)
    return make()


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in one message for each dtype."""
    if _here.count == 1:
        return
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(tensor.dtype, []).append(tensor)
    for alike in kinds.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        dist.all_reduce(flat)
        flat /= _here.count
        start = 0
        for tensor in alike:
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()


def divided(run: Pass, place: int = 0) -> Pass:
    """The same pass with the batch divided among the ranks; all of them have to call it.

    A batch that would give a slice of fewer than `SMALLEST` images is run whole by everybody.

    What a network draws (dropout) it draws for its slice, from the step's seed, the rank and `place`; afterwards the
    generator stands where it stood, so that what the objective draws is the same on every rank.

    Args:
        run: How one network is run.
        place: Which of the networks of a step it is, so that two alike do not draw alike.
    """
    if _here.count == 1:
        return run

    def of_all(inputs: Tensor, taps: tuple[str, ...] = ()) -> Trace:
        sizes = slices(len(inputs), _here.count)
        if min(sizes) < SMALLEST:
            return run(inputs, taps)
        start = sum(sizes[: _here.rank])
        with _drawing(place, inputs.device):
            mine = run(inputs[start : start + sizes[_here.rank]], taps)
        return Trace(
            _gathered(mine.logits, sizes, "the logits"),
            {tap: _gathered(value, sizes, f"tap {tap!r}") for tap, value in mine.taps.items()},
        )

    return of_all


def slices(images: int, count: int) -> list[int]:
    """How many images of a batch each rank takes, in their order: the first ones take what is left over."""
    whole, rest = divmod(images, count)
    return [whole + (rank < rest) for rank in range(count)]


@contextmanager
def _drawing(place: int, device: torch.device) -> Generator[None, None, None]:
    """Generators of the rank's own, for one pass."""
    seed = fold(torch.default_generator.initial_seed(), "rank", _here.rank, place)
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)  # As `Machine.seed`, which says why.
        if cuda:
            torch.cuda.manual_seed(seed)
        yield


def _gathered(mine: Tensor, sizes: Sequence[int], what: str) -> Tensor:
    """What all ranks have, one after another along the first dimension, with gradient."""
    images = sizes[_here.rank]
    if mine.dim() == 0 or len(mine) % images:
        raise UserError(
            f"{what} of {images} images is of shape {tuple(mine.shape)}, which cannot be put together from several "
            "devices; run it with --devices 1."
        )
    each = len(mine) // images  # Rows of an image: windows or heads may lie along the first dimension too.
    rows = [size * each for size in sizes]
    last = mine.dim() == 4 and mine.is_contiguous(memory_format=torch.channels_last)
    gathered: Tensor = _Gather.apply(mine.permute(0, 2, 3, 1) if last else mine, rows)  # pyright: ignore[reportAssignmentType]
    return gathered.permute(0, 3, 1, 2) if last else gathered


class _Gather(torch.autograd.Function):
    """Slices in, the whole out; and the gradient of the own slice back, times the number of ranks.

    Every rank has the whole loss's gradient for the whole batch, so nothing has to be sent back: a rank's slice of it,
    times `count`, makes the mean over the ranks of a parameter's gradient the sum over the batch.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, rows: Sequence[int]) -> Tensor:
        ctx.start, ctx.rows = sum(rows[: _here.rank]), rows[_here.rank]
        longest = max(rows)
        padded = mine.new_zeros(longest, *mine.shape[1:])
        padded[: len(mine)] = mine
        whole = mine.new_empty(len(rows) * longest, *mine.shape[1:])
        # As bytes, because not every backend knows every dtype.
        dist.all_gather_into_tensor(whole.view(-1).view(torch.uint8), padded.view(-1).view(torch.uint8))
        if min(rows) == longest:
            return whole
        return torch.cat([whole[longest * rank :][:own] for rank, own in enumerate(rows)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _here.count * gradients[0][ctx.start : ctx.start + ctx.rows], None
