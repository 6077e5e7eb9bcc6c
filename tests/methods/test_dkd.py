import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods import kd_loss
from potstill.methods.dkd import DKD, dkd_loss
from potstill.methods.standardize import standardize


def parts(s, t, y, temperature):
    """(TCKD, NCKD, p_t of the label) of each image, from the paper's definitions."""
    found = []
    for u, v, label in response.rows(s, t, y):
        p_s, p_t = response.softmax(u, temperature), response.softmax(v, temperature)
        binary = [[p[label], math.fsum(response.without(p, label))] for p in (p_t, p_s)]
        others = [response.softmax(response.without(row, label), temperature) for row in (v, u)]
        found.append((response.divergence(*binary), response.divergence(*others), p_t[label]))
    return found


def derived(s, t, y, alpha=1.0, beta=8.0, temperature=4.0):
    return temperature**2 * response.mean([alpha * tckd + beta * nckd for tckd, nckd, _ in parts(s, t, y, temperature)])


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 2.0, 1.0), (0.0, 1.0, 2.0)])
def test_it_is_both_parts_with_their_weights(alpha, beta, temperature):
    response.assert_derived(
        lambda s, t, y: dkd_loss(s, t, y, alpha=alpha, beta=beta, temperature=temperature),
        lambda s, t, y: derived(s, t, y, alpha, beta, temperature),
    )


def test_two_classes_by_hand():
    # With two classes nothing is left among the rest; (¾, ¼) against (½, ½).
    s, t = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert dkd_loss(s, t, torch.tensor([0]), temperature=1).item() == pytest.approx(want, rel=1e-6)
    assert dkd_loss(s, t, torch.tensor([1]), alpha=2, temperature=1).item() == pytest.approx(2 * want, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_are_both_parts_the_second_times_what_is_left_of_the_teacher(temperature):
    for n, k in response.SIZES:
        s, t, y = response.logits(n, k), response.logits(n, k, seed=1), response.labels(n, k)
        whole = temperature**2 * response.mean([a + (1 - p) * b for a, b, p in parts(s, t, y, temperature)])
        assert kd_loss(s, t, temperature=temperature).item() == pytest.approx(whole, rel=1e-9)
        each = [
            dkd_loss(s[i : i + 1], t[i : i + 1], y[i : i + 1], beta=1 - p, temperature=temperature).item()
            for i, (_, _, p) in enumerate(parts(s, t, y, temperature))
        ]
        assert response.mean(each) == pytest.approx(whole, rel=1e-9)


def test_laws():
    response.assert_least_at_equality(dkd_loss)
    response.assert_blind_to_shifts(dkd_loss)
    response.assert_teaches_the_student_alone(dkd_loss)
    response.assert_survives_extremes(dkd_loss)
    response.assert_survives_extremes(lambda s, t, y: dkd_loss(s, t, y, temperature=1))
    response.assert_weighs(lambda s, t, y, w: dkd_loss(s, t, y, weight=w), dkd_loss)


def test_a_student_that_is_sure_still_has_the_binary_parts_gradient():
    # In float32 1 − p is 0 here; the logarithm of what is left is −30.
    s = torch.tensor([[30.0, 0.0]], requires_grad=True)
    dkd_loss(s, torch.zeros(1, 2), torch.tensor([0]), temperature=1).backward()
    assert s.grad is not None
    assert s.grad.tolist()[0] == pytest.approx([0.5, -0.5], rel=1e-5)


def test_the_term():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    assert response.of_term(DKD(beta=2, temperature=3), s, t, y) == pytest.approx(derived(s, t, y, 1.0, 2.0, 3.0))
    z = response.of_term(DKD(standardize=True), s, t, y)
    assert z == pytest.approx(dkd_loss(standardize(s), standardize(t), y).item(), rel=1e-12)
    response.assert_only_right(DKD(only_right=True), dkd_loss)
    assert (DKD().weight, DKD().warmup) == (1.0, 20.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0}, r"The temperature is 0; expected a number > 0, usually from 1 to 20\."),
        ({"alpha": -1.0}, r"The alpha of 'dkd' is -1; expected a number ≥ 0\."),
        ({"beta": math.nan, "name": "x"}, r"The beta of 'x' is nan; expected a number ≥ 0\."),
    ],
)
def test_values_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        DKD(**options)
