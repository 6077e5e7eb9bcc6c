"""On-the-fly native ensemble.

Xu Lan, Xiatian Zhu, Shaogang Gong: Knowledge Distillation by On-the-Fly Native Ensemble. NeurIPS 2018,
arXiv:1806.04606, section 3.

Branches on one trunk learn from their own ensemble, whose gate is learned from the labels. The branches' losses are
summed, × exp(−5(1 − e/80)²) until epoch e = 80.

Errata: the ensemble is detached here; only its own cross-entropy teaches the gate.
"""

from jaxtyping import Float
from torch import Tensor

from potstill.divergence import softened_kl


def one_loss(
    student: Float[Tensor, "n k"], ensemble: Float[Tensor, "n k"], *, temperature: float = 3.0
) -> Float[Tensor, ""]:
    """T² · KL(softmax(ensemble/T) ‖ softmax(branch/T)): summed over classes, mean over the batch.

    Args:
        student: Logits of one branch.
        ensemble: The gated sum of the branches' logits, detached here.
        temperature: T > 0.
    """
    return softened_kl(student, ensemble, temperature=temperature)
