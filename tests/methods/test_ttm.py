import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods import kd_loss
from potstill.methods.ttm import TTM, WTTM, ttm_loss, wttm_loss


def plain(s, t, y):
    return ttm_loss(s, t, temperature=10)


def weighed(s, t, y):
    return wttm_loss(s, t, temperature=5)


def derived(s, t, temperature):
    return [response.divergence(response.softmax(v, temperature), response.softmax(u)) for u, v in pairs(s, t)]


def pairs(s, t):
    return zip(s.double().tolist(), t.double().tolist(), strict=True)


def factors(s, t, temperature):
    return [math.fsum(p ** (1 / temperature) for p in response.softmax(v)) for _, v in pairs(s, t)]


@pytest.mark.parametrize("temperature", [1.0, 5.0, 10.0])
def test_only_the_teacher_is_softened(temperature):
    response.assert_derived(
        lambda s, t, y: ttm_loss(s, t, temperature=temperature),
        lambda s, t, y: response.mean(derived(s, t, temperature)),
    )


@pytest.mark.parametrize("temperature", [1.0, 5.0, 10.0])
def test_images_are_weighed_by_the_transformed_probabilities_sum(temperature):
    response.assert_derived(
        lambda s, t, y: wttm_loss(s, t, temperature=temperature),
        lambda s, t, y: response.mean(
            [w * v for w, v in zip(factors(s, t, temperature), derived(s, t, temperature), strict=True)]
        ),
    )


def test_by_hand():
    # At T = 2 a teacher of (0.9, 0.1) says (¾, ¼); √0.9 + √0.1 is its image's weight.
    s, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[math.log(9), 0.0]], dtype=torch.float64)
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert ttm_loss(s, t, temperature=2).item() == pytest.approx(want, rel=1e-9)
    assert wttm_loss(s, t, temperature=2).item() == pytest.approx(want * (math.sqrt(0.9) + math.sqrt(0.1)), rel=1e-9)


def test_at_temperature_1_both_are_the_plain_divergence():
    s, t = response.logits(4, 5), response.logits(4, 5, seed=1)
    want = kd_loss(s, t, temperature=1).item()
    assert ttm_loss(s, t, temperature=1).item() == pytest.approx(want, rel=1e-12)
    assert wttm_loss(s, t, temperature=1).item() == pytest.approx(want, rel=1e-12)


def test_the_minimum_is_where_the_student_equals_the_softened_teacher():
    t = response.logits(5, 7)
    s = (t / 10).requires_grad_()
    for loss in (ttm_loss, wttm_loss):
        found = loss(s, t, temperature=10)
        found.backward()
        assert found.item() == pytest.approx(0, abs=1e-12)
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12


@pytest.mark.parametrize("loss", [plain, weighed])
def test_laws(loss):
    response.assert_blind_to_shifts(loss)
    response.assert_teaches_the_student_alone(loss)
    response.assert_survives_extremes(loss)


def test_images_can_be_weighed():
    response.assert_weighs(lambda s, t, y, w: ttm_loss(s, t, temperature=10, weight=w), plain)
    response.assert_weighs(lambda s, t, y, w: wttm_loss(s, t, temperature=5, weight=w), weighed)


def test_the_terms():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    assert response.of_term(TTM(temperature=3), s, t, y) == pytest.approx(ttm_loss(s, t, temperature=3).item())
    assert response.of_term(WTTM(temperature=3), s, t, y) == pytest.approx(wttm_loss(s, t, temperature=3).item())
    response.assert_only_right(TTM(only_right=True), plain)
    response.assert_only_right(WTTM(only_right=True), weighed)
    assert (TTM().weight, WTTM().weight) == (45.0, 4.0)
    for kind in (TTM, WTTM):
        with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
            kind(temperature=0)
