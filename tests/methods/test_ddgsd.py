import pytest
import torch

from methods import response
from potstill.methods.ddgsd import ddgsd_feature_loss, ddgsd_loss


def plain(s, t, y):
    return ddgsd_loss(s, t, temperature=3)


def derived(s, t, y, temperature=3.0):
    pairs = [(response.softmax(u, temperature), response.softmax(v, temperature)) for u, v, _ in response.rows(s, t, y)]
    return temperature**2 * response.mean([response.divergence(q, p) + response.divergence(p, q) for p, q in pairs])


def test_it_is_the_divergence_both_ways():
    response.assert_derived(plain, derived)
    response.assert_derived(lambda s, t, y: ddgsd_loss(s, t, temperature=1), lambda s, t, y: derived(s, t, y, 1.0))


def test_each_view_learns_from_the_other_as_a_fixed_target():
    s, t = response.logits(3, 4).requires_grad_(), response.logits(3, 4, seed=1).requires_grad_()
    ddgsd_loss(s, t, temperature=2).backward()
    p, q = (s.detach() / 2).softmax(1), (t.detach() / 2).softmax(1)
    torch.testing.assert_close(s.grad, 2 * (p - q) / 3)
    torch.testing.assert_close(t.grad, 2 * (q - p) / 3)


def test_laws():
    response.assert_least_at_equality(plain)
    response.assert_blind_to_shifts(plain)
    response.assert_survives_extremes(plain)
    s, t = response.logits(4, 5), response.logits(4, 5, seed=1)
    assert ddgsd_loss(t, s, temperature=3).item() == pytest.approx(ddgsd_loss(s, t, temperature=3).item(), rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 3), (4, 6), (5, 3, 2, 2)])
def test_features_are_compared_by_their_means_over_the_batch(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    n = shape[0]
    columns = [zip(*x.flatten(1).tolist(), strict=True) for x in (a, b)]
    want = sum((sum(u) / n - sum(v) / n) ** 2 for u, v in zip(*columns, strict=True))
    found = ddgsd_feature_loss(a, b)
    found.backward()
    assert found.item() == pytest.approx(want, rel=1e-9)
    for x in (a, b):
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
    # Which images have which features is forgotten.
    assert ddgsd_feature_loss(a.flip(0), b).item() == pytest.approx(want, rel=1e-9)


def test_features_by_hand():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert ddgsd_feature_loss(a, b).item() == 5.0  # (2, 1) − (0, 2)


def test_large_half_precision_features_are_finite():
    big = torch.full((4, 512), 1e4).half()
    found = ddgsd_feature_loss(big, -big)
    assert found.item() == pytest.approx(512 * 4e8)
