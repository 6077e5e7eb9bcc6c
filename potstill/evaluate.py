"""What is measured on logits: accuracy, likelihood, calibration, and fidelity to the teacher."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.machine import Machine
from potstill.types import Batch, Pass

BINS = 15
"""Equal-width bins of confidence, as the field uses for the calibration error."""


def accuracy(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Share of images whose largest logit is the label's."""
    return (logits.argmax(1) == labels).double().mean().item()


def nll(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Negative log-likelihood of the labels in nats, mean over images."""
    return F.cross_entropy(logits.double(), labels).item()


def calibration_error(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = BINS) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins, weighted by their images.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks. ICML 2017, arXiv:1706.04599, equation 3.
    """
    confidence, guess = logits.double().softmax(1).max(1)
    right = (guess == labels).double()
    place = (confidence * bins).ceil().clamp(1, bins).long() - 1  # Bins are open below and closed above.
    gap = torch.zeros(bins, dtype=torch.double, device=logits.device).index_add_(0, place, right - confidence)
    return gap.abs().sum().item() / len(labels)


def agreement(logits: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> float:
    """Share of images on which student and teacher name the same class."""
    return (logits.argmax(1) == teacher.argmax(1)).double().mean().item()


def kl_to_teacher(logits: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> float:
    """KL(teacher ‖ student) at temperature 1 in nats, mean over images."""
    log_student, log_teacher = (F.log_softmax(z.double(), dim=1) for z in (logits, teacher))
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True).item()


def measure(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], teacher: Float[Tensor, "n k"] | None
) -> dict[str, float | None]:
    """Every measure of the test split, under the names that `result.json` uses."""
    logits, labels = logits.cpu(), labels.cpu()  # Not every device has float64.
    teacher = None if teacher is None else teacher.cpu()
    return {
        "test_accuracy": accuracy(logits, labels),
        "test_nll": nll(logits, labels),
        "ece": calibration_error(logits, labels),
        "agreement": None if teacher is None else agreement(logits, teacher),
        "kl_to_teacher": None if teacher is None else kl_to_teacher(logits, teacher),
    }


@torch.no_grad()
def predict(
    network: nn.Module, weights: Mapping[str, Tensor], run: Pass, batches: Iterable[Batch], machine: Machine
) -> Float[Tensor, "n k"]:
    """The float32 logits of a network in evaluation mode under given weights; its own are put back."""
    own = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    network.eval()
    logits: list[Tensor] = []
    for batch in batches:
        with machine.autocast():
            logits.append(run(batch.inputs, ()).logits.float())
    network.load_state_dict(own)
    return torch.cat(logits)


@dataclass
class Judged:
    """Sums of one validation pass, on the device."""

    sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    images: int = 0

    def add(self, losses: Mapping[str, Tensor], logits: Tensor, labels: Tensor) -> None:
        """Count one batch."""
        values = {
            **losses,
            "nll": F.cross_entropy(logits, labels),
            "accuracy": (logits.argmax(1) == labels).float().mean(),
        }
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0) + value.float() * len(labels)
        self.images += len(labels)

    def finite(self) -> bool:
        """Whether every loss was a finite number."""
        return all(bool(value.isfinite()) for value in self.sums.values())

    def means(self) -> dict[str, Any]:
        """Means over the images, as `metrics.jsonl` has them."""
        values = {key: value.item() / self.images for key, value in self.sums.items()}
        whole = {key: values.pop(key) for key in ("loss", "nll", "accuracy")}
        return {**whole, "terms": values}
