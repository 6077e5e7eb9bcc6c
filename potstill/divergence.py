"""What methods over logits are composed of: transforms, divergences, weights of samples, and checks of options.

Every function computes in float32 at least: half precision loses small probabilities. Divergences have one value per
image, `batch_mean` makes them a loss.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise

Temperature = float | Float[Tensor, ""]
SampleWeight = Float[Tensor, " n"] | Bool[Tensor, " n"]

# The logit of a class that is left out. Finite, so that a row without any class left has no NaN in it.
_OUT = -1e30


# Transforms.


def standardize(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Each image's logits with mean 0 and (unbiased) standard deviation 1: (z − mean)/(std + 1e-7) over classes.

    Equal logits (up to rounding) become zeros without a gradient: it would be 1e7.
    """
    spread, length, flat = _centred(precise(logits))
    return spread / (length / (logits.shape[1] - 1) ** 0.5 + 1e-7).masked_fill(flat, torch.inf)[:, None]


def log_softened(
    logits: Float[Tensor, "n k"], temperature: Temperature = 1.0, out: Bool[Tensor, "n k"] | None = None
) -> Float[Tensor, "n k"]:
    """The logarithm of softmax(logits/T).

    Args:
        logits: Of any precision.
        temperature: T > 0.
        out: Classes that are left out, the others being renormalised. Their own entries are huge and negative, but
            finite; they count for nothing in a divergence between distributions that leave out the same.
    """
    softened = precise(logits) / temperature
    return F.log_softmax(softened if out is None else softened.masked_fill(out, _OUT), dim=1)


def is_label(labels: Int[Tensor, " n"], classes: int) -> Bool[Tensor, "n k"]:
    """Where an image's class is its label: (N, K)."""
    return labels[:, None] == torch.arange(classes, device=labels.device)


def at_label(values: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Each image's value at its label."""
    return values.gather(1, labels[:, None]).squeeze(1)


def log_binary(log_probabilities: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    """The logarithms of p(label) and of 1 − p(label), the latter summed over the other classes, not subtracted."""
    label = is_label(labels, log_probabilities.shape[1])
    rest = log_probabilities.masked_fill(label, _OUT).logsumexp(1)
    return torch.stack([at_label(log_probabilities, labels), rest], dim=1)


def _centred(values: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Rows without their mean, how long they then are, and whether that is rounding alone."""
    spread = values - values.mean(1, keepdim=True)
    length = cast(Tensor, torch.linalg.vector_norm(spread, dim=1))
    noise = 8 * torch.finfo(values.dtype).eps * values.detach().abs().amax(1)
    return spread, length, length <= noise


# Divergences.


def kl(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """KL(teacher ‖ student) of log-probabilities, summed over classes."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def reverse_kl(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """KL(student ‖ teacher) of log-probabilities, summed over classes."""
    return kl(teacher, student)


def soft_cross_entropy(student: Float[Tensor, "n k"], target: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """−Σ target · log p_student over classes, of log-probabilities and of a target that need not sum to 1."""
    return -(target * student).sum(1)


def squared_distance(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """(student − teacher)², mean over classes."""
    return (precise(student) - precise(teacher)).square().mean(1)


def pearson(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Pearson's correlation of each row with its counterpart, 1e-8 being added to the denominator.

    It is 0, and has no gradient, where a row is constant up to rounding: the gradient there would be about 1e8.
    """
    (a, long_a, flat_a), (b, long_b, flat_b) = _centred(first), _centred(second)
    return (a * b).sum(1) / (long_a * long_b + 1e-8).masked_fill(flat_a | flat_b, torch.inf)


# From values per image to a loss.


def batch_mean(losses: Float[Tensor, " n"], weight: SampleWeight | None = None) -> Float[Tensor, ""]:
    """Σ weight · loss / N: the sum is divided by the number of images, not by the sum of the weights."""
    return losses.mean() if weight is None else (losses * weight).mean()


def teacher_right(teacher: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether the teacher's largest logit is that of the label."""
    return teacher.argmax(1) == labels


def softened_kl(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    temperature: Temperature,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """T² · KL(softmax(teacher/T) ‖ softmax(student/T)) of logits: summed over classes, mean over the batch.

    Args:
        student: Logits.
        teacher: Logits, detached here.
        temperature: T > 0; a tensor where it is learned.
        weight: Factor of each image.
    """
    losses = kl(log_softened(student, temperature), log_softened(teacher.detach(), temperature))
    return batch_mean(losses, weight) * temperature**2


# What terms ask of their options.


def expect_temperature(temperature: float) -> None:
    """Refuse a temperature that is none.

    Raises:
        UserError: it is not a number > 0.
    """
    if not 0 < temperature < float("inf"):
        raise UserError(f"The temperature is {temperature:g}; expected a number > 0, usually from 1 to 20.")


def expect_factor(term: str, name: str, value: float) -> None:
    """Refuse a factor that would turn a loss around.

    Raises:
        UserError: it is not a number ≥ 0.
    """
    if not 0 <= value < float("inf"):
        raise UserError(f"The {name} of {term!r} is {value:g}; expected a number ≥ 0.")
