"""CKA against the papers' formulas in float64, and what it must not depend on."""

from typing import Any

import numpy as np
import pytest
import torch

from potstill.analysis.cka import linear_cka, relations


def features(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, equation 5, up to the factor that CKA does not see."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    return float(
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )


def reference(x: torch.Tensor, y: torch.Tensor) -> float:
    """Kornblith et al. 2019, equation 4: products of the rows as they are, not centred first."""
    a, b = (np.asarray(z.reshape(len(z), -1), dtype=np.float64) for z in (x, y))
    k, m = a @ a.T, b @ b.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize(("n", "p", "q"), [(4, 3, 2), (20, 5, 50), (64, 300, 7), (30, 9000, 3)])
def test_it_is_the_papers(n: int, p: int, q: int):
    x = features(1, n, p) + 0.5
    y = x[:, :1] * features(2, 1, q) + features(3, n, q)
    assert linear_cka(x, y) == pytest.approx(reference(x, y), abs=1e-6)


def test_maps_are_rows_of_all_their_values():
    x, y = features(1, 12, 3, 4, 4), features(2, 12, 6)
    assert linear_cka(x, y) == linear_cka(x.flatten(1), y)


def test_a_layer_is_itself_and_neither_rotation_nor_scale_nor_shift_change_that():
    x, y = features(1, 40, 16), features(1, 40, 16)[:, :5] + features(2, 40, 5)
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-12)
    turned, _ = torch.linalg.qr(features(3, 16, 16).double())
    other = 7.5 * (x.double() @ turned) + 3
    assert linear_cka(x, other) == pytest.approx(1, abs=1e-9)
    assert linear_cka(other, y) == pytest.approx(linear_cka(x, y), abs=1e-9)
    # It is not blind to what stretches one direction alone.
    stretched = x * torch.linspace(0.1, 10, 16)
    assert (linear_cka(x, stretched) or 1) < 0.9


def test_unrelated_layers_are_near_zero_however_wide_they_are():
    found: list[Any] = [linear_cka(features(2 * s, 100, 2000), features(2 * s + 1, 100, 2000)) for s in range(20)]
    assert abs(np.mean(found)) < 0.01
    x, y = (np.asarray(features(s, 100, 2000), dtype=np.float64) for s in (0, 1))
    biased = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert biased > 0.9  # What the plain estimator would have said.


def test_what_does_not_vary_is_like_nothing():
    x = features(1, 10, 4)
    assert relations(torch.full((10, 4), 2.5)) is None
    assert linear_cka(torch.zeros(10, 4), x) is None
    assert linear_cka(x, torch.full((10, 1), 1e8)) is None


def test_three_images_are_too_few():
    with pytest.raises(ValueError, match="3 images are too few for an unbiased estimate; expected at least 4"):
        relations(features(1, 3, 4))
