import math

import pytest
import torch

from methods import response
from potstill.methods.labels import label_loss
from potstill.methods.pskd import pskd_loss


def derived(s, t, y, alpha):
    found = []
    for u, v, label in response.rows(s, t, y):
        past = response.softmax(v)
        target = [alpha * p + (1 - alpha) * (k == label) for k, p in enumerate(past)]
        found.append(response.crossed(target, response.softmax(u)))
    return response.mean(found)


def loss_at(alpha):
    return lambda s, t, y: pskd_loss(s, t.double().softmax(1), y, alpha=alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_it_is_cross_entropy_against_the_mixture(alpha):
    for n, k in response.SIZES:
        s, t, y = response.logits(n, k), response.logits(n, k, seed=1), response.labels(n, k)
        want = derived(s, t, y, alpha)
        assert pskd_loss(s, t.softmax(1), y, alpha=alpha).item() == pytest.approx(want, rel=1e-9)
        half = pskd_loss(s.float(), t.softmax(1).half(), y, alpha=alpha)  # The table of the past is kept in fp16.
        assert half.item() == pytest.approx(want, rel=3e-3)


def test_by_hand():
    s, past = torch.zeros(1, 2), torch.tensor([[0.25, 0.75]])
    assert pskd_loss(s, past, torch.tensor([0]), alpha=0.4).item() == pytest.approx(math.log(2), rel=1e-6)


def test_without_a_past_it_is_the_labels_loss():
    s, t, y = response.logits(4, 5), response.logits(4, 5, seed=1), response.labels(4, 5)
    assert loss_at(0.0)(s, t, y).item() == pytest.approx(label_loss(s, y).item(), rel=1e-12)


def test_laws():
    response.assert_teaches_the_student_alone(loss_at(0.5))
    response.assert_blind_to_shifts(loss_at(0.5))
    response.assert_survives_extremes(loss_at(0.5))
