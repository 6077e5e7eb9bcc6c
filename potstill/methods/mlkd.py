"""Multi-level logit distillation.

Ying Jin, Jiaqi Wang, Dahua Lin: Multi-Level Logit Distillation. CVPR 2023, section 3.

Three levels of the same predictions, at several temperatures: each image's distribution, the relations between
images, and the relations between classes. As shipped, the loss is taken on a weakly augmented view with the factors
(½, ½, ½) and on a strongly augmented one with (1, 0, 0), × 0.9, beside 0.1 for the labels on both. With standardized
logits (Sun et al. 2024, arXiv:2403.01427) it is × 9 with the temperatures (2, 2, 3, 5, 6), and only the first
level's logits are standardized.

Errata: the paper masks images of which the teacher is sure and classes that it predicts often; the authors' code has
the losses summed up before the masks meet them, so that these only halve the loss, which is where the ½ comes from.
Its relations on the strong view are computed and thrown away. `masked` has the paper's masks.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from potstill.divergence import batch_mean, log_softened, softened_kl
from potstill.divergence import standardize as standardized
from potstill.gram import products


def mlkd_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    instance: float = 1.0,
    batch: float = 1.0,
    classes: float = 1.0,
    standardize: bool = False,
    masked: bool = False,
) -> Float[Tensor, ""]:
    """Σ_T [instance · T² · KL + batch · ‖P_s P_sᵀ − P_t P_tᵀ‖²/N + classes · ‖P_sᵀ P_s − P_tᵀ P_t‖²/K].

    P is (N, K), the probabilities at T; the divergence is summed over classes, mean over the batch.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher, detached here.
        temperatures: Each T > 0.
        instance: Factor of the divergence of each image.
        batch: Factor of the relations between images.
        classes: Factor of the relations between classes.
        standardize: Whether the divergence of each image is of standardized logits.
        masked: Whether only those images count whose largest probability, and those classes whose sum over the batch,
            is at most the median of the teacher's.
    """
    teacher = teacher.detach()
    images, kinds = _masks(teacher) if masked else (None, None)
    own, answer = (standardized(student), standardized(teacher)) if standardize else (student, teacher)
    total = student.new_zeros((), dtype=torch.promote_types(student.dtype, torch.float32))
    for temperature in temperatures:
        s, t = log_softened(student, temperature).exp(), log_softened(teacher, temperature).exp()
        total = total + instance * softened_kl(own, answer, temperature=temperature, weight=images)
        total = total + batch * _relations(s, t, images) + classes * _relations(s.T, t.T, kinds)
    return total


def _relations(s: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
    """The squared difference of the two Gram matrices, by the number of their rows."""
    return batch_mean((products(s, s) - products(t, t)).square().sum(1), rows)


def _masks(teacher: Float[Tensor, "n k"]) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " k"]]:
    probabilities = log_softened(teacher).exp()
    sure, often = probabilities.amax(1), probabilities.sum(0)
    return sure <= sure.quantile(0.5), often <= often.quantile(0.5)
