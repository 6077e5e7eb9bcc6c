"""On-the-fly native ensemble.

Xu Lan, Xiatian Zhu, Shaogang Gong: Knowledge Distillation by On-the-Fly Native Ensemble. NeurIPS 2018,
arXiv:1806.04606.

Branches on one trunk learn from their own ensemble, whose gate is learned from the labels. The branches' losses are
summed, × exp(−5(1 − e/80)²) until epoch e = 80.

The authors' gate reads the trunk's pooled features: a linear layer to one number for each branch, batch norm, ReLU,
softmax.

Errata: the ensemble is detached, as in the authors' code; only its own cross-entropy teaches the gate. They add 1e-7
to its probabilities, which is left out here.
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
