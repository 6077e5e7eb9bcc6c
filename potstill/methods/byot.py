"""Be your own teacher.

Linfeng Zhang, Jiebo Song, Anni Gao, Jingwei Chen, Chenglong Bao, Kaisheng Ma: Be Your Own Teacher: Improve the
Performance of Convolutional Neural Networks via Self Distillation. ICCV 2019, arXiv:1905.08094.

Heads after each stage learn from labels and from the deepest head, and their features from the deepest ones: weight
1 for the deepest head's labels, 0.03 for features, which the head next to the deepest does without.

Errata: there is no T², and the distance of features is the root of the sum over the whole batch, not a mean of
squares, so its gradient does not fade as they meet. The soft part of the authors' code is a cross-entropy, which has
the same gradient. The β of 1e-6 that is passed around belongs to a third party's squared form.
"""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from potstill.divergence import batch_mean, kl, log_softened
from potstill.gram import precise


def byot_loss(
    student: Float[Tensor, "n k"],
    deepest: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    alpha: float = 0.3,
    temperature: float = 3.0,
) -> Float[Tensor, ""]:
    """(1 − α) · cross-entropy + α · KL(softmax(deepest/T) ‖ softmax(student/T)), without T²: mean over the batch.

    Args:
        student: Logits of one head.
        deepest: Logits of the deepest head, detached here.
        labels: Classes of the images.
        alpha: α, from 0 to 1.
        temperature: T > 0 of the divergence.
    """
    soft = batch_mean(kl(log_softened(student, temperature), log_softened(deepest.detach(), temperature)))
    return (1 - alpha) * F.cross_entropy(precise(student), labels) + alpha * soft


def byot_feature_loss(adapted: Float[Tensor, "n ..."], deepest: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """‖adapted − deepest‖, the unsquared Euclidean norm over the whole batch.

    Args:
        adapted: One head's features, brought to the deepest ones' shape.
        deepest: The deepest features, detached here.
    """
    return cast(Tensor, torch.linalg.vector_norm(precise(adapted) - precise(deepest.detach())))
