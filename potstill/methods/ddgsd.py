"""Data-distortion guided self-distillation.

Ting-Bing Xu, Cheng-Lin Liu: Data-Distortion Guided Self-Distillation for Deep Neural Networks. AAAI 2019.

Two augmented views of each image teach each other: weight 1 for their answers and 5e-4 for the means of their pooled
features, beside the mean of both views' cross-entropies.

Errata: the weights and what is detached are those of a later reimplementation, for no code of the authors is known: as
a target each answer is detached; the features are not.
"""

from jaxtyping import Float
from torch import Tensor

from potstill.divergence import softened_kl
from potstill.gram import rows


def ddgsd_loss(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"], *, temperature: float) -> Float[Tensor, ""]:
    """T² · [KL(p₂ ‖ p₁) + KL(p₁ ‖ p₂)], the targets detached: summed over classes, mean over the batch.

    Args:
        first: Logits of one view.
        second: Logits of another view of the same images.
        temperature: T > 0.
    """
    forth = softened_kl(first, second, temperature=temperature)
    return forth + softened_kl(second, first, temperature=temperature)


def ddgsd_feature_loss(first: Float[Tensor, "n ..."], second: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """‖mean over the batch of f₁ − mean over the batch of f₂‖²: the maximum mean discrepancy of a linear kernel.

    Args:
        first: Features of one view, usually pooled.
        second: Features of another view.
    """
    return (rows(first).mean(0) - rows(second).mean(0)).square().sum()
