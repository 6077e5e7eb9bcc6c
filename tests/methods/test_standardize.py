import statistics

import pytest
import torch

from methods import response
from potstill.methods import KD, kd_loss
from potstill.methods.standardize import standardize


@pytest.mark.parametrize(("n", "k"), response.SIZES)
def test_each_images_logits_get_mean_0_and_unbiased_deviation_1(n, k):
    z = response.logits(n, k)
    for row, found in zip(z.tolist(), standardize(z).tolist(), strict=True):
        mean, deviation = statistics.fmean(row), statistics.stdev(row)
        assert found == pytest.approx([(value - mean) / (deviation + 1e-7) for value in row], rel=1e-9)


def test_by_hand():
    # The mean is 2, the unbiased variance (1 + 0 + 1)/2.
    found = standardize(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx([-1, 0, 1], abs=1e-6)


def test_shift_and_scale_are_forgotten():
    z = response.logits(4, 6)
    torch.testing.assert_close(standardize(5 * z - 3), standardize(z), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_extremes_and_rows_of_one_value_are_finite(dtype):
    z = torch.tensor([[1e4, -1e4, 0.0], [5.0, 5.0, 5.0], [-1e4, 1e4, 1e4]]).to(dtype).requires_grad_()
    found = standardize(z)
    found.square().sum().backward()
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert found[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [0.0, 0.1, 300.0])
def test_equal_logits_get_no_gradient_out_of_rounding(value):
    # An output layer that starts at zero answers so; 1e-7 in the denominator would make it a gradient of 1e7.
    z = torch.full((4, 10), value, requires_grad=True)
    kd_loss(standardize(z), standardize(response.logits(4, 10, dtype=torch.float32)), temperature=2).backward()
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_soft_targets_take_it_on_both_sides():
    s, t, y = response.logits(4, 5), response.logits(4, 5, seed=1), response.labels(4, 5)
    found = response.of_term(KD(temperature=2, standardize=True), s, t, y)
    assert found == pytest.approx(kd_loss(standardize(s), standardize(t), temperature=2).item(), rel=1e-12)
    assert response.of_term(KD(temperature=2, standardize=True), 4 * s + 1, t, y) == pytest.approx(found, rel=1e-6)
    right = KD(standardize=True, only_right=True)
    response.assert_only_right(right, lambda s, t, y: kd_loss(standardize(s), standardize(t), temperature=4))
