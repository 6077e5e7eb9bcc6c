"""Linear CKA: how alike two sets of activations of the same images are, up to rotation and scale.

Simon Kornblith, Mohammad Norouzi, Honglak Lee, Geoffrey Hinton: Similarity of Neural Network Representations Revisited.
ICML 2019, arXiv:1905.00414, equation 4, with linear kernels.

HSIC is estimated without bias (Le Song, Alex Smola, Arthur Gretton, Justin Bedo, Karsten Borgwardt: Feature Selection
via Dependence Maximization. JMLR 13, 2012, equation 5) on one fixed sample: the plain estimator of the paper tends to 1
for any two layers with more features than there are images, as convolutional ones have. An unbiased estimate may fall
a little below 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor

FEWEST = 4
"""Images below which HSIC has no unbiased estimate."""

_PART = 8192  # Features per product, so that a large map is never held twice.


def linear_cka(x: Float[Tensor, "n ..."], y: Float[Tensor, "n ..."]) -> float | None:
    """The similarity of two layers' activations of n ≥ 4 images; None where one does not vary."""
    return similarity(relations(x), relations(y))


def relations(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"] | None:
    """What CKA takes of a layer: the products between images, U-centred, of norm 1; None where it does not vary.

    With K the products and the diagonal left out, entry (i, j) is K_ij − K_i·/(n−2) − K_·j/(n−2) + K_··/((n−1)(n−2)).
    The inner product of two such tables is n(n−3) times Song's unbiased estimate of HSIC, so that of two of norm 1 is
    CKA.
    """
    count = len(x)
    if count < FEWEST:
        raise ValueError(f"{count} images are too few for an unbiased estimate; expected at least {FEWEST}.")
    products = torch.zeros(count, count, dtype=torch.float64)
    whole = 0.0
    rows = x.detach().flatten(1)
    for start in range(0, rows.shape[1], _PART):
        features = rows[:, start : start + _PART].cpu().double()
        whole += float(features.square().sum())
        # A common shift changes nothing but the rounding.
        features = features - features.mean(0)
        products += features @ features.T
    products.fill_diagonal_(0)
    sums = products.sum(0)
    centred = products - (sums + sums[:, None]) / (count - 2) + sums.sum() / ((count - 1) * (count - 2))
    centred.fill_diagonal_(0)
    norm = float(centred.square().sum().sqrt())
    return centred / norm if norm > 1e-10 * whole else None


def similarity(x: Float[Tensor, "n n"] | None, y: Float[Tensor, "n n"] | None) -> float | None:
    """CKA of two layers by their relations."""
    return None if x is None or y is None else (x * y).sum().clamp(-1, 1).item()
