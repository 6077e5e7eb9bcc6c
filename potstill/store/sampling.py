"""Classes drawn from what a teacher says, for data of so many that not all of its logits can be kept.

Of one image let p = softmax(z/T) be the teacher's softened answer. Its k draws are the classes in which the k equally
spaced points (u + j)/k, j = 0 … k − 1, fall when the classes lie side by side on [0, 1) with lengths p; u is uniform on
[0, 1), one number for each image and view. Let p̂ be the share of the draws that each class got. Then

- E[p̂ᵢ] = pᵢ exactly: point j falls on class i with the probability that pᵢ's stretch has within [j/k, (j + 1)/k), times
  k, and over all j these add up to k·pᵢ;
- |p̂ᵢ − pᵢ| < 1/k: a stretch holds ⌊k·pᵢ⌋ or ⌈k·pᵢ⌉ of equally spaced points;
- Σ p̂ᵢ = 1, so that no mass is lost, and none has to be put anywhere.

The cross-entropy −Σ p̂ᵢ log sᵢ of a student s is linear in p̂, so its expectation is that under p, and so is every
gradient's. Nothing else is promised: a loss that is not linear in p (another temperature, a ranking, a correlation, the
teacher's best class) is biased under p̂. The divergence KL(p̂ ‖ s) has the right gradient, but its value is too large by
the entropy that p̂ lacks.

Keeping the k largest probabilities instead, renormalised, is biased, and so is a tail spread evenly. See Anshumann,
Zaidi, Kedia, Ahn, Kwon, Lee, Lee, Lee: Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs. ACL 2025,
arXiv:2503.16870, who draw independently; Shen, Xing: A Fast Knowledge Distillation Framework for Visual Recognition.
2021, arXiv:2112.01528, who keep the largest. Equal spacing is J. E. Baker's, of 1987.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from potstill.data import mix
from potstill.errors import UserError
from potstill.reading import NEVER
from potstill.seeds import fold

_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Sample:
    """How many classes are drawn, and at which temperature.

    Attributes:
        draws: k, of each image in each view; a class may be drawn more than once.
        temperature: T.
    """

    draws: int
    temperature: float

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UserError(f"A sample of {self.draws} classes was asked for; expected at least 1 draw.")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"Classes are drawn at the temperature {self.temperature:g}; expected a number > 0.")

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.draws} draws at {self.temperature:g}"

    def drawn(self, logits: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """The classes that were drawn, (N, k), ascending: int16 where they can be, else int32.

        Args:
            logits: (N, K).
            index: Each image's place in the published split, (N,).
            view: Which augmentation it is, (N,).
        """
        first = torch.from_numpy(uniform(index.cpu().numpy(), view.cpu().numpy()))
        return self.at(logits, first)

    def at(self, logits: Tensor, first: Tensor) -> Tensor:
        """The draws that follow from each image's u, `first`, (N,), float64."""
        # On the CPU, where sums are always taken in the same order.
        ends = (logits.cpu().double() / self.temperature).softmax(1).cumsum(1)
        points = (first[:, None] + torch.arange(self.draws)) / self.draws
        # Relative to the last, which rounding keeps from 1; a point is in the class that ends beyond it.
        places = torch.searchsorted(ends, points * ends[:, -1:], right=True).clamp_max(logits.shape[1] - 1)
        return places.to(logits.device, torch.int16 if logits.shape[1] <= 2**15 else torch.int32)

    def logits(self, drawn: Tensor, classes: int) -> Tensor:
        """Logits whose softmax at T is p̂, (N, K), float32: T·log p̂, and as good as −∞ for classes without a draw."""
        counts = torch.zeros(len(drawn), classes, device=drawn.device)
        counts.scatter_add_(1, drawn.long(), torch.ones(drawn.shape, device=drawn.device))
        shares = counts / self.draws
        never = NEVER * max(self.temperature, 1.0)
        return torch.where(shares > 0, shares.log() * self.temperature, never)


def uniform(index: np.ndarray, view: np.ndarray) -> np.ndarray:
    """A number from [0, 1) for each image and view, float64, alike everywhere."""
    start = np.uint64(fold(0, "sampled classes"))
    own = mix(start + index.astype(np.uint64) * _STEP)
    return (mix(own + view.astype(np.uint64) * _STEP) >> np.uint64(11)).astype(np.float64) * 2.0**-53
