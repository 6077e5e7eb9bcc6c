import math

import pytest
import torch

from methods import response
from potstill.methods.one import one_loss


def plain(s, t, y):
    return one_loss(s, t)


def derived(s, t, y, temperature=3.0):
    return temperature**2 * response.mean(
        [
            response.divergence(response.softmax(v, temperature), response.softmax(u, temperature))
            for u, v, _ in response.rows(s, t, y)
        ]
    )


def test_it_is_the_softened_divergence_from_the_other_answer():
    response.assert_derived(plain, derived)
    response.assert_derived(lambda s, t, y: one_loss(s, t, temperature=1), lambda s, t, y: derived(s, t, y, 1.0))


def test_by_hand():
    s, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    want = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert one_loss(s, t, temperature=2).item() == pytest.approx(want, rel=1e-9)


def test_laws():
    response.assert_least_at_equality(plain)
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_survives_extremes(plain)
