"""Mean teacher.

Antti Tarvainen, Harri Valpola: Mean teachers are better role models: Weight-averaged consistency targets improve
semi-supervised deep learning results. NIPS 2017, arXiv:1703.01780, section 2.

The teacher is the running average of the student's own weights, with the decay min(1 − 1/(step + 1), 0.999); the
weight is ramped by exp(−5(1 − e/5)²) until epoch e = 5. With few labels of CIFAR-10 the authors' code has the weight
100, and 0.97 for 0.999.

Errata: the squares are averaged over classes too, so their weight grows with the number of classes. In the authors'
code the average stays in training mode, and batch norm's own statistics are not averaged.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from potstill.divergence import batch_mean, kl, log_softened, squared_distance
from potstill.errors import UserError


def ema_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], *, distance: Literal["mse", "kl"] = "mse"
) -> Float[Tensor, ""]:
    """How far the student's probabilities are from its average's.

    Args:
        student: Logits.
        teacher: Logits of the average, detached here.
        distance: "mse": (p_s − p_t)², mean over all elements; "kl": KL(p_t ‖ p_s), summed over classes, batch mean.

    Raises:
        UserError: there is no such distance.
    """
    own, answer = log_softened(student), log_softened(teacher.detach())
    if distance == "mse":
        return batch_mean(squared_distance(own.exp(), answer.exp()))
    if distance == "kl":
        return batch_mean(kl(own, answer))
    raise UserError(f"The distance is {distance!r}; expected mse or kl.")
