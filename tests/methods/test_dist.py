import math

import numpy as np
import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.dist import DIST, dist_loss


def plain(s, t, y):
    return dist_loss(s, t)


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (math.sqrt((a**2).sum()) * math.sqrt((b**2).sum()) + 1e-8)


def derived(s, t, y, beta=1.0, gamma=1.0, temperature=4.0):
    p_s, p_t = (np.array([response.softmax(row, temperature) for row in z.double().tolist()]) for z in (s, t))
    rows = np.mean([1 - correlation(a, b) for a, b in zip(p_s, p_t, strict=True)])
    columns = np.mean([1 - correlation(a, b) for a, b in zip(p_s.T, p_t.T, strict=True)])
    return float(temperature**2 * (beta * rows + gamma * columns))


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 4.0), (2.0, 0.5, 1.0), (0.0, 1.0, 2.0)])
def test_it_is_one_minus_both_correlations(beta, gamma, temperature):
    response.assert_derived(
        lambda s, t, y: dist_loss(s, t, beta=beta, gamma=gamma, temperature=temperature),
        lambda s, t, y: derived(s, t, y, beta, gamma, temperature),
    )


def test_by_hand():
    # Two classes that swap places are anticorrelated: 1 − (−1) for each image and each class.
    s = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    assert dist_loss(s, s.flip(1), temperature=1).item() == pytest.approx(4.0, rel=1e-6)
    assert dist_loss(s, s.flip(1), beta=1, gamma=0, temperature=3).item() == pytest.approx(18.0, rel=1e-6)


def test_a_single_image_has_no_correlation_over_the_batch():
    s = response.logits(1, 5)
    assert dist_loss(s, s, temperature=2).item() == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 300.0])
def test_an_indifferent_student_gets_no_gradient_out_of_rounding(value):
    # An output layer that starts at zero answers so; 1e-8 in the denominator would make it a gradient of 1e7.
    s = torch.full((4, 10), value, requires_grad=True)
    loss = dist_loss(s, response.logits(4, 10, dtype=torch.float32), temperature=1)
    loss.backward()
    assert loss.item() == pytest.approx(2.0, rel=1e-6)
    assert s.grad is not None
    assert (s.grad == 0).all()


def test_laws():
    s = response.logits(5, 7).requires_grad_()
    loss = dist_loss(s, s.detach())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)  # The 1e-8 in the denominator keeps it from zero.
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-5
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_survives_extremes(plain)
    response.assert_survives_extremes(lambda s, t, y: dist_loss(s, t, temperature=1))
    # Unlike a divergence it asks for the shape of the distribution, not for its values.
    assert dist_loss(torch.log(0.5 * s.detach().softmax(1) + 0.5 / 7), s.detach(), temperature=1).item() < 1e-4


def test_the_term():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    found = response.of_term(DIST(beta=2, gamma=3, temperature=2), s, t, y)
    assert found == pytest.approx(derived(s, t, y, 2.0, 3.0, 2.0))
    assert DIST().weight == 2.0
    for name, make in (("beta", lambda: DIST(beta=-1)), ("gamma", lambda: DIST(gamma=-1))):
        with pytest.raises(UserError, match=rf"^The {name} of 'dist' is -1; expected a number ≥ 0\.$"):
            make()
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        DIST(temperature=0)
