"""Class-wise self-distillation.

Sukmin Yun, Jongjin Park, Kimin Lee, Jinwoo Shin: Regularizing Class-wise Predictions via Self-knowledge
Distillation. CVPR 2020, arXiv:2003.13964.

The student's answer to one image is the target for another image of the same class. The weight is 1 with T = 4 on
CIFAR-100, 3 on fine-grained data; the labels' cross-entropy is of the first image alone.

Errata: in the authors' code the partner's pass has no gradient but is in training mode, so that batch norm sees it,
and an image may be its own partner.
"""

from jaxtyping import Float
from torch import Tensor

from potstill.divergence import softened_kl


def cskd_loss(
    student: Float[Tensor, "n k"], partner: Float[Tensor, "n k"], *, temperature: float = 4.0
) -> Float[Tensor, ""]:
    """T² · KL(softmax(partner/T) ‖ softmax(student/T)): summed over classes, mean over the batch.

    Args:
        student: Logits.
        partner: Logits of other images of the same classes, detached here.
        temperature: T > 0.
    """
    return softened_kl(student, partner, temperature=temperature)
