import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.nkd import NKD, nkd_loss


def derived(s, t, y, gamma=1.5, temperature=1.0):
    found = []
    for u, v, label in response.rows(s, t, y):
        p_s, p_t = response.softmax(u), response.softmax(v)
        others = [response.softmax(response.without(row, label), temperature) for row in (v, u)]
        rest = gamma * temperature**2 * response.crossed(*others)
        found.append(-p_t[label] * math.log(p_s[label]) + rest)
    return response.mean(found)


@pytest.mark.parametrize(("gamma", "temperature"), [(1.5, 1.0), (1.0, 4.0), (0.0, 2.0)])
def test_it_is_the_label_at_1_and_the_renormalised_rest(gamma, temperature):
    response.assert_derived(
        lambda s, t, y: nkd_loss(s, t, y, gamma=gamma, temperature=temperature),
        lambda s, t, y: derived(s, t, y, gamma, temperature),
    )


def test_by_hand():
    # The teacher says (½, ¼, ¼), the student is indifferent: ½·log 3 for the label, log 2 for the rest.
    t, s = torch.tensor([[math.log(2), 0.0, 0.0]]), torch.zeros(1, 3)
    want = 0.5 * math.log(3) + 1.5 * math.log(2)
    assert nkd_loss(s, t, torch.tensor([0])).item() == pytest.approx(want, rel=1e-6)


def test_the_rest_is_at_its_minimum_where_the_renormalised_classes_agree():
    s, y = response.logits(5, 7).requires_grad_(), response.labels(5, 7)
    t = s.detach().clone()
    t[torch.arange(5), y] -= 3.0  # The label's own logit is no matter of the rest.
    both, label = (nkd_loss(s, t, y, gamma=gamma, temperature=2.0) for gamma in (1.0, 0.0))
    (both - label).backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12


def test_laws():
    response.assert_blind_to_shifts(nkd_loss)
    response.assert_teaches_the_student_alone(nkd_loss)
    response.assert_survives_extremes(nkd_loss)
    response.assert_survives_extremes(lambda s, t, y: nkd_loss(s, t, y, temperature=4))
    response.assert_weighs(lambda s, t, y, w: nkd_loss(s, t, y, weight=w), nkd_loss)


def test_the_term():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    assert response.of_term(NKD(gamma=2, temperature=3), s, t, y) == pytest.approx(derived(s, t, y, 2.0, 3.0))
    response.assert_only_right(NKD(only_right=True), nkd_loss)
    with pytest.raises(UserError, match=r"^The gamma of 'nkd' is -1; expected a number ≥ 0\.$"):
        NKD(gamma=-1)
    with pytest.raises(UserError, match=r"^The temperature is -2; expected a number > 0, usually from 1 to 20\.$"):
        NKD(temperature=-2)
