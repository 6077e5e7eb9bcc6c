import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.wsld import WSLD, wsld_loss


def weights(s, t, y):
    found = []
    for u, v, label in response.rows(s, t, y):
        behind = -math.log(response.softmax(u)[label]) / (-math.log(response.softmax(v)[label]) + 1e-7)
        found.append(1 - math.exp(-behind))
    return found


def derived(s, t, y, temperature=4.0):
    soft = [
        response.crossed(response.softmax(v, temperature), response.softmax(u, temperature))
        for u, v, _ in response.rows(s, t, y)
    ]
    return temperature**2 * response.mean([w * value for w, value in zip(weights(s, t, y), soft, strict=True)])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_it_is_the_weighed_soft_cross_entropy(temperature):
    response.assert_derived(
        lambda s, t, y: wsld_loss(s, t, y, temperature=temperature), lambda s, t, y: derived(s, t, y, temperature)
    )


def test_by_hand():
    # Both are as far from the label as the other, log 2: the weight is 1 − 1/e.
    z = torch.zeros(1, 2, dtype=torch.float64)
    want = (1 - math.exp(-1)) * math.log(2) * 16
    assert wsld_loss(z, z, torch.tensor([0])).item() == pytest.approx(want, rel=1e-6)


def test_where_both_agree_the_gradient_is_zero_for_the_weights_are_detached():
    s, y = response.logits(5, 7).requires_grad_(), response.labels(5, 7)
    wsld_loss(s, s.detach(), y).backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12


def test_the_gradient_is_that_of_the_soft_part_times_the_weight():
    s, t, y = (
        response.logits(3, 4).requires_grad_(),
        response.logits(3, 4, seed=1).requires_grad_(),
        response.labels(3, 4),
    )
    wsld_loss(s, t, y, temperature=2).backward()
    assert t.grad is None
    assert s.grad is not None
    want = [
        [2 * w * (a - b) / 3 for a, b in zip(response.softmax(u, 2), response.softmax(v, 2), strict=True)]
        for w, (u, v, _) in zip(weights(s, t, y), response.rows(s, t, y), strict=True)
    ]
    torch.testing.assert_close(s.grad, torch.tensor(want, dtype=torch.float64))


def test_laws():
    response.assert_blind_to_shifts(wsld_loss)
    response.assert_survives_extremes(wsld_loss)
    response.assert_weighs(lambda s, t, y, w: wsld_loss(s, t, y, weight=w), wsld_loss)


def test_the_term():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    assert response.of_term(WSLD(temperature=2), s, t, y) == pytest.approx(derived(s, t, y, 2.0))
    response.assert_only_right(WSLD(only_right=True), wsld_loss)
    assert WSLD().weight == 2.25
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        WSLD(temperature=0)
