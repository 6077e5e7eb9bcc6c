import math

import pytest
import torch

from methods import response
from potstill.methods.byot import byot_feature_loss, byot_loss
from potstill.methods.labels import label_loss


def derived(s, t, y, alpha=0.3, temperature=3.0):
    found = []
    for u, v, label in response.rows(s, t, y):
        soft = response.divergence(response.softmax(v, temperature), response.softmax(u, temperature))
        found.append((1 - alpha) * -math.log(response.softmax(u)[label]) + alpha * soft)
    return response.mean(found)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.3, 3.0), (1.0, 1.0), (0.0, 4.0)])
def test_it_is_labels_and_soft_targets_without_the_squared_temperature(alpha, temperature):
    response.assert_derived(
        lambda s, t, y: byot_loss(s, t, y, alpha=alpha, temperature=temperature),
        lambda s, t, y: derived(s, t, y, alpha, temperature),
    )


def test_by_hand():
    z = torch.zeros(1, 2)
    assert byot_loss(z, z, torch.tensor([0])).item() == pytest.approx(0.7 * math.log(2), rel=1e-6)


def test_laws():
    s, y = response.logits(4, 5), response.labels(4, 5)
    assert byot_loss(s, s, y).item() == pytest.approx(0.7 * label_loss(s, y).item(), rel=1e-12)
    response.assert_blind_to_shifts(byot_loss)
    response.assert_teaches_the_student_alone(byot_loss)
    response.assert_survives_extremes(byot_loss)


@pytest.mark.parametrize("shape", [(1, 3), (4, 6), (3, 2, 4, 4)])
def test_features_are_compared_by_one_norm_over_the_batch(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = byot_feature_loss(a, b)
    found.backward()
    assert found.item() == pytest.approx(math.hypot(*(a - b).flatten().tolist()), rel=1e-9)
    assert b.grad is None
    torch.testing.assert_close(a.grad, ((a - b) / found).detach())


def test_features_by_hand_twice_and_at_equality():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert byot_feature_loss(a, b).item() == pytest.approx(5.0)
    # Unsquared: a batch twice as large is √2 times as far.
    assert byot_feature_loss(a.repeat(2, 1), b.repeat(2, 1)).item() == pytest.approx(5 * math.sqrt(2))
    leaf = b.clone().requires_grad_()
    byot_feature_loss(leaf, b).backward()
    assert leaf.grad is not None
    assert (leaf.grad == 0).all()


def test_large_half_precision_features_are_finite():
    big = torch.full((8, 512), 1e4).half().requires_grad_()
    found = byot_feature_loss(big, -big)
    found.backward()
    assert found.item() == pytest.approx(2e4 * 64, rel=1e-5)
    assert big.grad is not None
    assert big.grad.isfinite().all()
