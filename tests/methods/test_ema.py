import inspect
import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.ema import ema_loss


def plain(s, t, y):
    return ema_loss(s, t)


def divergence(s, t, y):
    return ema_loss(s, t, distance="kl")


def pairs(s, t, y):
    return [(response.softmax(u), response.softmax(v)) for u, v, _ in response.rows(s, t, y)]


def test_it_is_the_squares_of_probabilities_or_their_divergence():
    response.assert_derived(
        plain,
        lambda s, t, y: response.mean([(a - b) ** 2 for p, q in pairs(s, t, y) for a, b in zip(p, q, strict=True)]),
    )
    response.assert_derived(
        divergence, lambda s, t, y: response.mean([response.divergence(q, p) for p, q in pairs(s, t, y)])
    )


def test_by_hand():
    s, t = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    assert ema_loss(s, t).item() == pytest.approx(1 / 16, rel=1e-6)
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert ema_loss(s, t, distance="kl").item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("loss", [plain, divergence])
def test_laws(loss):
    response.assert_least_at_equality(loss)
    response.assert_blind_to_shifts(loss)
    response.assert_teaches_the_student_alone(loss)
    response.assert_survives_extremes(loss)


def test_an_unknown_distance_is_refused():
    with pytest.raises(UserError, match=r"^The distance is 'l1'; expected mse or kl\.$"):
        inspect.unwrap(ema_loss)(torch.zeros(1, 2), torch.zeros(1, 2), distance="l1")
