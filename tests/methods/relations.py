"""What the tests of relations share: points drawn at random, traces that hold them, and laws that all of them obey."""

import pytest
import torch

from potstill.errors import UserError
from potstill.term import Plan, Progress
from potstill.types import Batch, Trace

START = Progress(0, 0.0, 1)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def points(*shape, seed=0, dtype=torch.float64):
    """Seeded normal numbers; equal ones in every dtype up to rounding."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def batch_of(n, classes=2):
    index = torch.arange(n)
    return Batch(torch.zeros(n, 1, 1, 1), index % classes, index, torch.zeros(n, dtype=torch.int64))


def trace_of(**taps):
    """A trace with these activations."""
    return Trace(torch.zeros(len(next(iter(taps.values()))), 2), taps)


def plan(n=8, classes=2):
    labels = torch.arange(n) % classes
    return Plan(torch.nn.Identity(), None, 4, classes, labels, torch.arange(n))


def obeys_the_rules_of_detaching(loss, s, t, *, learned_teacher=False):
    """A gradient for the student; for the teacher's side only where something is learned on it."""
    s, t = s.clone().requires_grad_(), t.clone().requires_grad_()
    value = loss(s, t)
    value.backward()
    assert value.shape == ()
    assert s.grad is not None
    assert s.grad.abs().sum() > 0
    if learned_teacher:
        assert t.grad is not None
        assert t.grad.abs().sum() > 0
    else:
        assert t.grad is None


def is_finite_for(loss, s, t):
    """The loss and its gradient."""
    s = s.clone().requires_grad_()
    value = loss(s, t)
    value.backward()
    assert value.dtype == (torch.float64 if s.dtype == torch.float64 else torch.float32)
    assert value.isfinite()
    assert s.grad is not None
    assert s.grad.isfinite().all()


def is_finite_everywhere(loss, s, t):
    """In every dtype, for large numbers, and for points that coincide or are zero."""
    for dtype in DTYPES:
        is_finite_for(loss, s.to(dtype), t.to(dtype))
        for scale in (1e4, 1e-4):
            is_finite_for(loss, (scale * s.tanh()).to(dtype), (scale * t.tanh()).to(dtype))
        same = s.clone()
        same[1] = same[0]
        is_finite_for(loss, same.to(dtype), t.to(dtype))
        is_finite_for(loss, torch.zeros_like(s, dtype=dtype), t.to(dtype))
        is_finite_for(loss, s.to(dtype), torch.zeros_like(t, dtype=dtype))


def is_as_precise_in_an_autocast_region(loss, s, t):
    """Products inside a region would otherwise be rounded to half precision."""
    s, t = s.float(), t.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(s, t)
    torch.testing.assert_close(inside, loss(s, t), rtol=1e-6, atol=0)


def refuses_taps_that_do_not_pair(kind):
    """One sentence each, for the taps of any term of layers."""
    name = kind.__name__.lower()
    for student, teacher in ((("a", "b"), ("a",)), ((), ())):
        sentence = (
            rf"^The term '{name}' compares {len(student)} of the student's taps with {len(teacher)} of the teacher's; "
            r"expected pairs, at least one\.$"
        )
        with pytest.raises(UserError, match=sentence):
            kind(student=student, teacher=teacher)


def misses_its_teacher(term, learned=None):
    """The sentence of a term that cannot do without."""
    sentence = r"compares with a teacher, but the run names none; give it a teacher\."
    with pytest.raises(UserError, match=sentence):
        term.loss(batch_of(4), trace_of(pooled=points(4, 3)), None, learned, START)
