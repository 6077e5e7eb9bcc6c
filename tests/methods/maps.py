"""What tests of feature methods share: maps, traces of them, and checks that every pure function passes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from potstill.term import Plan, Progress, Term
from potstill.types import Batch, Trace

START = Progress(0, 0.0, 1)


def maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def trace(**taps: Tensor) -> Trace:
    """A trace of taps alone; `stage1_pre` stands for "stage1.pre"."""
    first = next(iter(taps.values()))
    return Trace(maps(len(first), 3, seed=99, dtype=first.dtype), {k.replace("_", "."): v for k, v in taps.items()})


def batch(images: int) -> Batch:
    """Labels 0, 1, 2, 0, …"""
    zeros = torch.zeros(images, dtype=torch.int64)
    return Batch(torch.zeros(images, 1, 1, 1), torch.arange(images) % 3, torch.arange(images), zeros)


def plan(
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
    batch_size: int = 4,
    classes: int = 3,
    images: int = 8,
) -> Plan:
    """What a build may look at."""
    labels = torch.arange(images) % classes
    return Plan(student or nn.Identity(), teacher, batch_size, classes, labels, torch.arange(images))


def built(
    term: Term, student: Trace, teacher: Trace, network: nn.Module | None = None, own: nn.Module | None = None
) -> nn.Module | None:
    """What a term learns from these traces, in their precision; `network` is the teacher, `own` the student."""
    part = term.build(student, teacher, plan(network, own))
    return None if part is None else part.to(student.logits.dtype)


def value(term: Term, student: Trace, teacher: Trace, learned: nn.Module | None = None) -> float:
    """The term's loss."""
    return term.loss(batch(len(student.logits)), student, teacher, learned, START).item()


def assert_sound(
    loss: Callable[..., Tensor], student: Sequence[Tensor], detached: Sequence[Tensor], learned: Sequence[Tensor] = ()
) -> None:
    """Finite in every precision and for huge inputs, in float32 at least; gradients go where they should only.

    Args:
        loss: Called with the three groups of tensors, one after the other.
        student: Inputs that shall get a gradient.
        detached: The teacher's.
        learned: Positive inputs of the loss that are learned, and shall get one too.
    """
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for scale in (1.0, 1e4):
            moving = [(x * scale).to(dtype).requires_grad_() for x in student]
            still = [(x * scale).roll(1, 0).to(dtype).requires_grad_() for x in detached]
            kept = [x.detach().to(dtype).requires_grad_() for x in learned]
            found = loss(*moving, *still, *kept)
            found.backward()
            assert found.shape == ()
            assert found.isfinite()
            assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            for x in (*moving, *kept):
                assert x.grad is not None
                assert x.grad.isfinite().all()
                assert x.grad.abs().sum() > 0
            for x in still:
                assert x.grad is None
