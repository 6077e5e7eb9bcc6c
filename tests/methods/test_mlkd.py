import numpy as np
import pytest
import torch

from methods import response
from potstill.methods.mlkd import mlkd_loss
from potstill.methods.standardize import standardize

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def plain(s, t, y):
    return mlkd_loss(s, t)


def probabilities(z, temperature):
    return np.array([response.softmax(row, temperature) for row in z.double().tolist()])


def derived(s, t, y, temperatures=TEMPERATURES, instance=1.0, batch=1.0, classes=1.0, masked=False, z=None):
    n, k = s.shape
    sure, often = np.ones(n), np.ones(k)
    if masked:
        p = probabilities(t, 1.0)
        sure, often = p.max(1) <= np.median(p.max(1)), p.sum(0) <= np.median(p.sum(0))
    first, second = (s, t) if z is None else z
    total = 0.0
    for temperature in temperatures:
        a, b = probabilities(first, temperature).tolist(), probabilities(second, temperature).tolist()
        kl = np.array([response.divergence(v, u) for u, v in zip(a, b, strict=True)])
        p, q = probabilities(s, temperature), probabilities(t, temperature)
        images = ((p @ p.T - q @ q.T) ** 2).sum(1)
        kinds = ((p.T @ p - q.T @ q) ** 2).sum(1)
        total += instance * temperature**2 * (sure * kl).mean()
        total += batch * (sure * images).sum() / n + classes * (often * kinds).sum() / k
    return float(total)


@pytest.mark.parametrize("factors", [(1.0, 1.0, 1.0), (0.5, 0.0, 2.0), (0.0, 3.0, 0.0)])
def test_it_is_the_three_levels_summed_over_the_temperatures(factors):
    instance, batch, classes = factors
    response.assert_derived(
        lambda s, t, y: mlkd_loss(s, t, instance=instance, batch=batch, classes=classes),
        lambda s, t, y: derived(s, t, y, TEMPERATURES, *factors),
    )


def test_a_temperature_named_twice_counts_twice():
    s, t = response.logits(4, 5), response.logits(4, 5, seed=1)
    once, twice = (mlkd_loss(s, t, temperatures=[2.0] * count).item() for count in (1, 2))
    assert twice == pytest.approx(2 * once, rel=1e-12)


def test_by_hand():
    # One image, (½, ½) against (¾, ¼) at T = 1.
    s, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    images = (0.5 - 0.625) ** 2
    kinds = ((0.25 - 0.5625) ** 2 + 2 * (0.25 - 0.1875) ** 2 + (0.25 - 0.0625) ** 2) / 2
    found = mlkd_loss(s, t, temperatures=(1,), instance=0)
    assert found.item() == pytest.approx(images + kinds, rel=1e-9)


def test_only_the_divergence_is_of_standardized_logits():
    s, t, y = response.logits(6, 5), response.logits(6, 5, seed=1), response.labels(6, 5)
    want = derived(s, t, y, z=(standardize(s), standardize(t)))
    assert mlkd_loss(s, t, standardize=True).item() == pytest.approx(want, rel=1e-9)
    assert want != pytest.approx(derived(s, t, y), rel=1e-3)


@pytest.mark.parametrize(("n", "k"), [(4, 3), (7, 10), (6, 5)])
def test_the_papers_masks_keep_unsure_images_and_rare_classes(n, k):
    s, t, y = response.logits(n, k), response.logits(n, k, seed=1), response.labels(n, k)
    assert mlkd_loss(s, t, masked=True).item() == pytest.approx(derived(s, t, y, masked=True), rel=1e-9)


def test_laws():
    response.assert_least_at_equality(plain)
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_teaches_the_student_alone(lambda s, t, y: mlkd_loss(s, t, standardize=True, masked=True))
    response.assert_survives_extremes(plain)
    response.assert_survives_extremes(lambda s, t, y: mlkd_loss(s, t, temperatures=(1,), standardize=True, masked=True))


def test_an_autocast_region_does_not_round_the_relations():
    s, t = (response.logits(16, 10, seed, torch.float32) for seed in (0, 1))
    want = mlkd_loss(s, t).item()
    with torch.autocast("cpu", torch.bfloat16):
        found = mlkd_loss(s, t)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(want, rel=1e-6)
