import math

import pytest
import torch

from methods import response
from potstill.methods.logits import Logits, Spherical, logits_loss, spherical_loss


def plain(s, t, y):
    return logits_loss(s, t)


def spherical(s, t, y):
    return spherical_loss(s, t)


def derived(s, t, y):
    return response.mean([(a - b) ** 2 for u, v, _ in response.rows(s, t, y) for a, b in zip(u, v, strict=True)])


def derived_spherical(s, t, y):
    def unit(row):
        return [value / math.hypot(*row) for value in row]

    pairs = [(unit(u), unit(v)) for u, v, _ in response.rows(s, t, y)]
    return response.mean([(a - b) ** 2 for u, v in pairs for a, b in zip(u, v, strict=True)])


def test_they_are_the_squares_averaged_over_all_elements():
    response.assert_derived(plain, derived)
    response.assert_derived(spherical, derived_spherical)


def test_by_hand():
    s, t = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    assert logits_loss(s, t).item() == pytest.approx((9 + 4) / 2)
    assert spherical_loss(s, t).item() == pytest.approx((0.36 + 0.04) / 2)


@pytest.mark.parametrize("loss", [plain, spherical])
def test_laws(loss):
    response.assert_least_at_equality(loss)
    response.assert_teaches_the_student_alone(loss)
    response.assert_survives_extremes(loss)


def test_only_the_spherical_form_is_blind_to_the_size_of_either_side():
    s, t = response.logits(4, 5), response.logits(4, 5, seed=1)
    want = spherical_loss(s, t).item()
    assert spherical_loss(3 * s, t / 7).item() == pytest.approx(want, rel=1e-12)
    assert logits_loss(3 * s, 3 * t).item() == pytest.approx(9 * logits_loss(s, t).item(), rel=1e-12)


def test_images_can_be_weighed():
    response.assert_weighs(lambda s, t, y, w: logits_loss(s, t, weight=w), plain)
    response.assert_weighs(lambda s, t, y, w: spherical_loss(s, t, weight=w), spherical)


def test_the_terms():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    assert response.of_term(Logits(weight=3), s, t, y) == pytest.approx(derived(s, t, y))
    assert response.of_term(Spherical(), s, t, y) == pytest.approx(derived_spherical(s, t, y))
    response.assert_only_right(Logits(only_right=True), plain)
    response.assert_only_right(Spherical(only_right=True), spherical)
