import math

import pytest
import torch

from methods.relations import (
    START,
    batch_of,
    is_as_precise_in_an_autocast_region,
    is_finite_everywhere,
    misses_its_teacher,
    obeys_the_rules_of_detaching,
    points,
    refuses_taps_that_do_not_pair,
    trace_of,
)
from potstill.errors import UserError
from potstill.methods.cckernel import CCKernel, correlation_kernel_loss


def derived(s, t, gamma, order):
    """Equations 5 to 8: the Taylor series of the Gaussian kernel of unit-norm rows, squared differences in the mean."""

    def kernel(x):
        flat = x.double().tolist()
        unit = [[value / math.hypot(*row) for value in row] for row in flat]
        products = [[math.fsum(a * b for a, b in zip(p, q, strict=True)) for q in unit] for p in unit]
        powers = [(2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
        return [[math.exp(-2 * gamma) * math.fsum(c * z**p for p, c in enumerate(powers)) for z in r] for r in products]

    pairs = [(a, b) for p, q in zip(kernel(s), kernel(t), strict=True) for a, b in zip(p, q, strict=True)]
    return math.fsum((a - b) ** 2 for a, b in pairs) / len(pairs)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.4, 1), (1.5, 5)])
@pytest.mark.parametrize(("n", "c", "d"), [(2, 3, 3), (5, 4, 2), (9, 20, 13)])
def test_the_loss_is_that_of_the_paper(n, c, d, gamma, order):
    s, t = points(n, c), points(n, d, seed=1)
    want = derived(s, t, gamma, order)
    assert correlation_kernel_loss(s, t, gamma=gamma, order=order).item() == pytest.approx(want, rel=1e-10)
    single = correlation_kernel_loss(s.float(), t.float(), gamma=gamma, order=order)
    assert single.item() == pytest.approx(want, rel=1e-5)


def test_two_images_by_hand():
    # The teacher's are at right angles, the student's alike: off the diagonal the kernels differ by e^(−.8)(.8 + .32).
    s, t = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    want = 2 * (math.exp(-0.8) * 1.12) ** 2 / 4
    assert correlation_kernel_loss(s, t).item() == pytest.approx(want, rel=1e-6)


def test_with_many_powers_it_compares_gaussian_kernels():
    s, t = points(6, 4), points(6, 5, seed=1)

    def gaussian(x):
        unit = x / x.norm(dim=1, keepdim=True)
        return (-0.7 * (unit.unsqueeze(0) - unit.unsqueeze(1)).square().sum(2)).exp()

    want = (gaussian(s) - gaussian(t)).square().mean().item()
    assert correlation_kernel_loss(s, t, gamma=0.7, order=20).item() == pytest.approx(want, rel=1e-10)
    turn, _ = torch.linalg.qr(points(4, 4, seed=2))
    assert correlation_kernel_loss(3 * s @ turn, s).item() == pytest.approx(0, abs=1e-20)


def test_gradients_and_numbers_at_the_edges():
    s, t = points(5, 4), points(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: correlation_kernel_loss(x, t), (s.clone().requires_grad_(),))
    obeys_the_rules_of_detaching(correlation_kernel_loss, s, t)
    is_finite_everywhere(correlation_kernel_loss, s, t)
    is_as_precise_in_an_autocast_region(correlation_kernel_loss, s, t)


def test_the_term_compares_pooled_features():
    s, t = points(4, 3), points(4, 5, seed=1)
    term = CCKernel(gamma=0.6, order=3)
    loss = term.loss(batch_of(4), trace_of(pooled=s), trace_of(pooled=t), None, START)
    assert loss.item() == pytest.approx(derived(s, t, 0.6, 3), rel=1e-9)
    default = CCKernel()
    assert (default.gamma, default.order, default.student_taps, default.teacher_taps) == (
        0.4,
        2,
        ("pooled",),
        ("pooled",),
    )
    refuses_taps_that_do_not_pair(CCKernel)
    misses_its_teacher(term)
    with pytest.raises(UserError, match=r"^The gamma of 'cckernel' is 0; expected a number > 0, such as 0\.4\.$"):
        CCKernel(gamma=0.0)
    with pytest.raises(UserError, match=r"^The order of 'cckernel' is 0; expected a whole number ≥ 1\.$"):
        CCKernel(order=0)
