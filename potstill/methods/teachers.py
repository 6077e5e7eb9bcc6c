"""Several teachers at once: their divergences averaged, or weighted by how sure, how right or how agreed they are.

AVER: the mean over teachers, as in Shan You, Chang Xu, Chao Xu, Dacheng Tao: Learning from Multiple Teacher Networks.
KDD 2017. EBKD: Kisoo Kwon, Hwidong Na, Hoshik Lee, Nam Soo Kim: Adaptive Knowledge Distillation Based on Entropy.
ICASSP 2020. AEKD: Shangchen Du, Shan You, Xiaojie Li, Jianlong Wu, Fei Wang, Chen Qian, Changshui Zhang: Agree to
Disagree: Adaptive Ensemble Knowledge Distillation in Gradient Space. NeurIPS 2020. CA-MKD: Hailin Zhang, Defang Chen,
Can Wang: Confidence-Aware Multi-Teacher Knowledge Distillation. ICASSP 2022, arXiv:2201.00007.

Errata: the weights here sum to 1 over the teachers and are detached. The code of CA-MKD divides all of them by the
number of teachers M once more; for its published numbers the factors are then AVER 1, EBKD (M − 1)/M, AEKD 1, CA-MKD
1/M and 50/M for its features (none of them in the first epoch). AEKD as shipped runs a support vector machine on the
CPU each step; the small quadratic problem that it solves is solved here on the device. In CA-MKD's code the gradient
flows through the weights of the feature term; they are a measure, so they are detached.
"""

from collections.abc import Sequence
from itertools import product
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise

MOST = 8
"""Teachers whose gradients can be weighed: the active sets tried are 3 to the power of their number."""

# Against the trace of the gradients' products: ties between teachers are broken evenly.
_RIDGE = 1e-10
_SLACK = 1e-9


def average_loss(
    student: Float[Tensor, "n k"], teachers: Float[Tensor, "m n k"], *, temperature: float = 4.0
) -> Float[Tensor, ""]:
    """The mean over teachers of T² · KL(softmax(teacher/T) ‖ softmax(student/T)), mean over the batch.

    Args:
        student: Logits of the student.
        teachers: Logits of each teacher, detached here.
        temperature: T > 0.
    """
    return _divergences(student, teachers, temperature).mean()


def weighted_kd_loss(
    student: Float[Tensor, "n k"],
    teachers: Float[Tensor, "m n k"],
    weights: Float[Tensor, "m n"] | Float[Tensor, " m"],
    *,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    """Σ_m w_m · T² · KL(softmax(teacher_m/T) ‖ softmax(student/T)), mean over the batch.

    Args:
        student: Logits of the student.
        teachers: Logits of each teacher, detached here.
        weights: Of each teacher, for each image or for the whole batch; detached here.
        temperature: T > 0.
    """
    share = precise(weights.detach())
    each = _divergences(student, teachers, temperature)
    return (each * (share if share.dim() == 2 else share.unsqueeze(1))).sum(0).mean()


def entropy_weights(teachers: Float[Tensor, "m n k"]) -> Float[Tensor, "m n"]:
    """EBKD: (1 − H_m / ΣH) / (M − 1), H the entropy of softmax(teacher); 1/M where every teacher is certain.

    Raises:
        UserError: there are fewer than two teachers.
    """
    _expect_several(len(teachers))
    # Its 0 · log 0 is 0.
    entropy = cast(Tensor, torch.special.entr(precise(teachers.detach()).softmax(2))).sum(2)
    total = entropy.sum(0, keepdim=True)
    share = torch.where(total > 0, entropy / total.masked_fill(total == 0, 1), 1 / len(teachers))
    return (1 - share) / (len(teachers) - 1)


def gradient_weights(
    student: Float[Tensor, "n k"],
    teachers: Float[Tensor, "m n k"],
    *,
    temperature: float = 4.0,
    tolerance: float = 0.6,
) -> Float[Tensor, " m"]:
    """AEKD: the w that minimises wᵀGGᵀw with Σw = 1 and 0 ≤ w ≤ C; rows of G are batch means of T·(p_s − p_t).

    A row of G is the gradient of `average_loss`'s divergence for one teacher with respect to the logits. The minimum is
    found over all active sets, in float64, without reading anything back from the device.

    Args:
        student: Logits of the student; detached here.
        teachers: Logits of each teacher; detached here.
        temperature: T > 0.
        tolerance: C, from 1/M (then all weights are equal) up; 1 bounds nothing.

    Raises:
        UserError: C is below 1/M, or there are more than `MOST` teachers.
    """
    count = len(teachers)
    if count > MOST:
        raise UserError(f"There are {count} teachers; gradients can be weighed for at most {MOST}.")
    if not tolerance * count >= 1:
        raise UserError(f"The tolerance is {tolerance:g}; expected at least 1/{count}, one part for each teacher.")
    p_s = (precise(student.detach()) / temperature).softmax(1)
    p_t = (precise(teachers.detach()) / temperature).softmax(2)
    gradients = temperature * (p_s - p_t).mean(1)
    return _least(gradients, tolerance).to(gradients)


def confidence_weights(teachers: Float[Tensor, "m n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, "m n"]:
    """CA-MKD: (1 − softmax_m CE(teacher_m, label)) / (M − 1): the lower its cross-entropy, the more a teacher counts.

    Raises:
        UserError: there are fewer than two teachers.
    """
    _expect_several(len(teachers))
    logits = precise(teachers.detach())
    wrong = torch.stack([F.cross_entropy(each, labels, reduction="none") for each in logits])
    return (1 - wrong.softmax(0)) / (len(teachers) - 1)


def camkd_feature_loss(
    projected: Sequence[Float[Tensor, "n ..."]],
    teacher: Sequence[Float[Tensor, "n ..."]],
    projected_logits: Float[Tensor, "m n k"],
    labels: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    """CA-MKD's features: Σ_m v_m · mean((projected_m − teacher_m)²) per image, mean over the batch.

    Args:
        projected: The student's map for each teacher, behind that teacher's own connector, in the teacher's shape.
        teacher: Each teacher's map, detached here; their shapes may differ from teacher to teacher.
        projected_logits: What each teacher's classifier says of `projected`; v are their `confidence_weights`.
        labels: Class indices.

    Raises:
        UserError: the numbers of maps or their shapes do not agree, or there are fewer than two teachers.
    """
    ours, theirs = [tuple(x.shape) for x in projected], [tuple(x.shape) for x in teacher]
    if ours != theirs or len(ours) != len(projected_logits):
        raise UserError(
            f"The projected maps have shapes {ours}, the teachers' {theirs}, and there are {len(projected_logits)} "
            "sets of logits; expected one of each per teacher, in equal shapes."
        )
    v = confidence_weights(projected_logits, labels)
    pairs = zip(projected, teacher, strict=True)
    apart = [(precise(s) - precise(t.detach())).square().flatten(1).mean(1) for s, t in pairs]
    return (v * torch.stack(apart)).sum(0).mean()


def _expect_several(count: int) -> None:
    if count < 2:
        raise UserError(f"There is {count} teacher; weights of teachers are for at least 2.")


def _divergences(
    student: Float[Tensor, "n k"], teachers: Float[Tensor, "m n k"], temperature: float
) -> Float[Tensor, "m n"]:
    """T² · KL of each teacher for each image."""
    log_student = (precise(student) / temperature).log_softmax(1)
    log_teachers = (precise(teachers.detach()) / temperature).log_softmax(2)
    apart = F.kl_div(log_student.expand_as(log_teachers), log_teachers, reduction="none", log_target=True)
    return apart.sum(2) * temperature**2


def _least(gradients: Float[Tensor, "m k"], bound: float) -> Float[Tensor, " m"]:
    """The convex combination of the rows that is shortest, each share at most `bound`.

    Each share is at 0, at the bound, or free. For every such choice the conditions of a minimum are a linear system;
    the best of the solutions that keep within the bounds is the minimum.
    """
    # Apple's devices have no float64.
    count, device = len(gradients), torch.device("cpu") if gradients.is_mps else gradients.device
    rows = gradients.to(device, torch.float64)
    gram = rows @ rows.mT
    length = gram.trace()
    one = torch.eye(count, dtype=gram.dtype, device=device)
    gram = gram / length.masked_fill(length == 0, 1) + _RIDGE * one
    choices = [choice for choice in product((0.0, bound, None), repeat=count) if None in choice]
    free = torch.tensor([[share is None for share in choice] for choice in choices], device=device)
    fixed = torch.tensor([[share or 0.0 for share in choice] for choice in choices], dtype=gram.dtype, device=device)
    system = gram.new_zeros(len(choices), count + 1, count + 1)
    system[:, :count, :count] = torch.where(free.unsqueeze(2), gram, one)
    system[:, :count, count] = free.to(gram.dtype)
    system[:, count, :count] = 1
    right = torch.cat([fixed, torch.ones_like(fixed[:, :1])], 1)
    shares = cast(Tensor, torch.linalg.solve_ex(system, right).result)[:, :count]
    within = ((shares >= -_SLACK) & (shares <= bound + _SLACK)).all(1)
    lengths = torch.einsum("pi,ij,pj->p", shares, gram, shares).masked_fill(~within, torch.inf)
    return shares[lengths.argmin()].clamp(0, bound)
