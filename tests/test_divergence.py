"""What the methods' own tests do not reach in the parts that they are composed of."""

import math

import pytest
import torch
from methods import response

from potstill import divergence
from potstill.errors import UserError


def test_the_reverse_divergence_teaches_the_student_through_its_own_expectation():
    s, t, y = response.logits(3, 4).requires_grad_(), response.logits(3, 4, seed=1), response.labels(3, 4)
    found = divergence.reverse_kl(divergence.log_softened(s), divergence.log_softened(t))
    want = [response.divergence(response.softmax(u), response.softmax(v)) for u, v, _ in response.rows(s, t, y)]
    assert found.tolist() == pytest.approx(want, rel=1e-9)
    found.sum().backward()
    p = s.detach().softmax(1)
    ratio = (p / t.softmax(1)).log()
    torch.testing.assert_close(s.grad, p * (ratio - (p * ratio).sum(1, keepdim=True)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_classes_that_are_left_out_have_no_share_even_if_none_is_left(dtype):
    z = torch.tensor([[1e4, 1.0, 0.0], [2.0, -1e4, 5.0]]).to(dtype).requires_grad_()
    out = torch.tensor([[True, False, False], [True, True, True]])
    found = divergence.log_softened(z, 0.5, out=out)
    assert found.isfinite().all()
    assert found.exp()[0].tolist() == pytest.approx([0, *response.softmax([1.0, 0.0], 0.5)], rel=1e-6)
    found.exp()[:, 1].sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert (z.grad[out] == 0).all()


def test_what_is_left_of_a_probability_near_1_is_not_rounded_away():
    log_p = divergence.log_softened(torch.tensor([[40.0, 0.0, 0.0]]))
    found = divergence.log_binary(log_p, torch.tensor([0]))
    assert found[0].tolist() == pytest.approx([0.0, math.log(2) - 40], abs=1e-5)


def test_a_correlation_is_between_rows_and_zero_where_one_is_constant():
    a = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.1, 0.1, 0.1]])
    b = torch.tensor([[2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert divergence.pearson(a, b).tolist() == pytest.approx([1, -1, 0, 0], abs=1e-6)
    assert divergence.pearson(b, a).tolist() == pytest.approx([1, -1, 0, 0], abs=1e-6)


def test_weights_are_not_normalised_away():
    losses = torch.tensor([1.0, 2.0, 3.0])
    assert divergence.batch_mean(losses).item() == 2.0
    assert divergence.batch_mean(losses, torch.tensor([True, False, False])).item() == pytest.approx(1 / 3)
    assert divergence.batch_mean(losses, torch.tensor([3.0, 0.0, 1.0])).item() == 2.0


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_temperature_is_refused(value):
    sentence = rf"The temperature is {value:g}; expected a number > 0, usually from 1 to 20\."
    with pytest.raises(UserError, match=f"^{sentence}$"):
        divergence.expect_temperature(value)


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf])
def test_what_is_no_factor_is_refused(value):
    with pytest.raises(UserError, match=rf"^The beta of 'x' is {value:g}; expected a number ≥ 0\.$"):
        divergence.expect_factor("x", "beta", value)
    divergence.expect_factor("x", "beta", 0.0)
