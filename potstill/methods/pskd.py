"""Progressive refinement of targets.

Kyungyul Kim, ByeongMoon Ji, Doyoung Yoon, Sangheum Hwang: Self-Knowledge Distillation with Progressive Refinement of
Targets. ICCV 2021, arXiv:2006.12000.

The student's own answers of the epoch before are mixed into the labels, more and more of them: α = 0.8 · (e + 1)/E
in epoch e of E, from 0. It takes the place of the cross-entropy on labels; in the first epoch the past is the label
itself.

Errata: the past is what the student said in training, augmented as the image then was, not an evaluation of it.
"""

from jaxtyping import Float, Int
from torch import Tensor

from potstill.divergence import batch_mean, is_label, log_softened, soft_cross_entropy
from potstill.gram import precise


def pskd_loss(
    student: Float[Tensor, "n k"], past: Float[Tensor, "n k"], labels: Int[Tensor, " n"], *, alpha: float
) -> Float[Tensor, ""]:
    """Cross-entropy against (1 − α) · onehot(label) + α · past: mean over the batch.

    Args:
        student: Logits.
        past: Probabilities that the student gave before, detached here.
        labels: Classes of the images.
        alpha: α, the share of the past, from 0 to 1.
    """
    past = precise(past.detach())
    target = alpha * past + (1 - alpha) * is_label(labels, student.shape[1]).to(past.dtype)
    return batch_mean(soft_cross_entropy(log_softened(student), target))
