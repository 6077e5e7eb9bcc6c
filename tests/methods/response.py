"""What the tests of losses over logits share: inputs, the softmax by hand, and what every such loss must withstand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from potstill.objective import loss_of
from potstill.term import Progress, Term
from potstill.types import Batch, Trace

SIZES = [(1, 2), (4, 3), (7, 10), (3, 50)]
START = Progress(0, 0.0, 1)

Rows = list[list[float]]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(student, teacher, labels) to a scalar; what does not need labels ignores them."""


def logits(n: int, k: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(3).to(dtype)


def labels(n: int, k: int, seed: int = 9) -> Tensor:
    return torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    top = max(row)
    weights = [math.exp((value - top) / temperature) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def divergence(p: list[float], q: list[float]) -> float:
    """KL(p ‖ q)."""
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def crossed(p: list[float], q: list[float]) -> float:
    """−Σ p log q."""
    return -math.fsum(a * math.log(b) for a, b in zip(p, q, strict=True) if a)


def without(row: list[float], label: int) -> list[float]:
    return row[:label] + row[label + 1 :]


def rows(student: Tensor, teacher: Tensor, label: Tensor) -> list[tuple[list[float], list[float], int]]:
    return list(zip(student.double().tolist(), teacher.double().tolist(), label.tolist(), strict=True))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def batch_of(label: Tensor) -> Batch:
    return Batch(torch.zeros(len(label), 1, 1, 1), label, label, torch.zeros_like(label))


def of_term(term: Term, student: Tensor, teacher: Tensor, label: Tensor, progress: Progress = START) -> float:
    """The loss of a term that learns nothing."""
    return term.loss(batch_of(label), Trace(student, {}), Trace(teacher, {}), None, progress).item()


def assert_derived(loss: Loss, derived: Callable[[Tensor, Tensor, Tensor], float], rel: float = 1e-7) -> None:
    """The loss is what the equation says, in float64 and float32, and of half-precision inputs as they were rounded."""
    for n, k in SIZES:
        s, t, y = logits(n, k), logits(n, k, seed=1), labels(n, k)
        assert loss(s, t, y).item() == pytest.approx(derived(s, t, y), rel=rel, abs=1e-12)
        assert loss(s.float(), t.float(), y).item() == pytest.approx(derived(s, t, y), rel=1e-4, abs=1e-5)
        for dtype in (torch.bfloat16, torch.float16):
            half_s, half_t = s.to(dtype), t.to(dtype)
            found = loss(half_s, half_t, y)
            assert found.dtype == torch.float32
            assert found.item() == pytest.approx(derived(half_s, half_t, y), rel=1e-4, abs=1e-5)


def assert_survives_extremes(loss: Loss) -> None:
    """Logits of ±1e4 give finite losses and gradients, whatever the precision and the label."""
    values = [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [1e4, 1e4, 1e4], [-1e4, 3.0, 1e4], [1e4, -1e4, 0.0]]
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        extremes = torch.tensor(values, dtype=torch.float64).to(dtype)
        for turn in (0, 1, 3):
            for label in range(3):
                s = extremes.clone().requires_grad_()
                found = loss(s, extremes.roll(turn, 0), torch.full((6,), label))
                found.backward()
                assert found.isfinite(), (dtype, turn, label)
                assert s.grad is not None
                assert s.grad.isfinite().all(), (dtype, turn, label)


def assert_teaches_the_student_alone(loss: Loss) -> None:
    """The gradient is that of finite differences, and none reaches the teacher."""
    s, t, y = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_(), labels(3, 4)
    loss(s, t, y).backward()
    assert t.grad is None
    assert s.grad is not None
    assert s.grad.abs().sum() > 0
    slopes = torch.zeros_like(s)
    with torch.no_grad():
        for place in range(s.numel()):
            step = torch.zeros_like(s)
            step.view(-1)[place] = 1e-6
            slopes.view(-1)[place] = (loss(s + step, t, y) - loss(s - step, t, y)) / 2e-6
    torch.testing.assert_close(s.grad, slopes, rtol=1e-5, atol=1e-7)


def assert_blind_to_shifts(loss: Loss) -> None:
    """Adding a number to all logits of an image, on either side, changes nothing."""
    s, t, y = logits(4, 5), logits(4, 5, seed=1), labels(4, 5)
    shift = torch.tensor([[9.0], [-40.0], [0.25], [300.0]], dtype=torch.float64)
    want = loss(s, t, y).item()
    assert loss(s + shift, t, y).item() == pytest.approx(want, rel=1e-9)
    assert loss(s, t - shift, y).item() == pytest.approx(want, rel=1e-9)


def assert_least_at_equality(loss: Loss) -> None:
    """Zero, with a zero gradient, where both agree, and positive elsewhere."""
    s, y = logits(5, 7).requires_grad_(), labels(5, 7)
    found = loss(s, s.detach(), y)
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-12)
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12
    for seed in range(1, 6):
        assert loss(s, logits(5, 7, seed), y).item() > 1e-3


def assert_weighs(weighed: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], plain: Loss) -> None:
    """With the weights w it is Σ w · (each image's loss)/N; booleans are 0 and 1, and all zeros give 0."""
    s, t, y = logits(5, 4), logits(5, 4, seed=1), labels(5, 4)
    each = torch.stack([plain(s[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(5)])
    w = torch.tensor([0.0, 1.0, 2.5, 0.5, 3.0], dtype=torch.float64)
    assert weighed(s, t, y, w).item() == pytest.approx((w * each).sum().item() / 5, rel=1e-9)
    some = torch.tensor([True, False, True, False, False])
    assert weighed(s, t, y, some).item() == pytest.approx(each[some].sum().item() / 5, rel=1e-9)
    assert weighed(s, t, y, torch.zeros(5, dtype=torch.bool)).item() == 0


def assert_only_right(term: Term, plain: Loss) -> None:
    """A term with `only_right` counts the images that the teacher gets right, and divides by all."""
    s, t = logits(4, 3), logits(4, 3, seed=1)
    y = torch.cat([t[:2].argmax(1), t[2:].argmin(1)])
    want = plain(s[:2], t[:2], y[:2]).item() / 2
    found = loss_of(term, batch_of(y), Trace(s, {}), Trace(t, {}), None, START)
    assert found.item() == pytest.approx(want, rel=1e-9)
