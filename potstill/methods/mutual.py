"""Deep mutual learning.

Ying Zhang, Tao Xiang, Timothy M. Hospedales, Huchuan Lu: Deep Mutual Learning. CVPR 2018, arXiv:1706.00384.

Networks that learn together are each other's teachers, with weight 1 beside 1 for the labels.

Errata: peers are detached, each network minimises its own loss; one popular library compares raw outputs by their
squares and lets the gradient into the peers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.divergence import softened_kl


def mutual_loss(
    student: Float[Tensor, "n k"], peers: Float[Tensor, "m n k"], *, temperature: float = 1.0
) -> Float[Tensor, ""]:
    """T² · KL(softmax(peer/T) ‖ softmax(student/T)): mean over peers, summed over classes, mean over the batch.

    Args:
        student: Logits of one network.
        peers: Logits of the others, detached here.
        temperature: T > 0.
    """
    return torch.stack([softened_kl(student, peer, temperature=temperature) for peer in peers]).mean()
