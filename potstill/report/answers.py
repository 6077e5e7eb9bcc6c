"""What a network answered to the test images: the predictions that a run folder holds, read without torch."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

PREDICTIONS = "predictions.safetensors"
"""What a run calls the file."""

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of one network to N test images of K classes.

    Attributes:
        labels: (N,).
        guess: The class that it names, (N,).
        confidence: The probability of that class, (N,).
        share: The probability of the label, (N,).
        classes: K.
    """

    labels: Labels
    guess: Labels
    confidence: NDArray[np.float32]
    share: NDArray[np.float32]
    classes: int

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Where it names the label, (N,)."""
        return self.guess == self.labels

    @cached_property
    def confusion(self) -> NDArray[np.float64]:
        """Share of the images of each class (row) that are called each class (column), (K, K); 0 for an empty class."""
        counts = np.bincount(self.labels * self.classes + self.guess, minlength=self.classes**2)
        table = counts.reshape(self.classes, self.classes).astype(np.float64)
        return table / np.maximum(table.sum(axis=1, keepdims=True), 1)


def answers(logits: Logits, labels: Labels) -> Answers:
    """The answers behind logits (N, K)."""
    rows = np.arange(len(labels))
    guess = logits.argmax(axis=1)
    top = logits[rows, guess]
    whole = np.exp(logits - top[:, None]).sum(axis=1)
    share = np.exp(logits[rows, labels] - top) / whole
    return Answers(labels, guess, 1 / whole, share, logits.shape[1])


def read_logits(path: Path) -> tuple[Logits, Labels]:
    """Logits (N, K) and labels (N,) of a file of predictions.

    Raises:
        ValueError: it is missing or damaged; the text says which, as in "is missing".
    """
    # Importing it takes a tenth of a second, which a report without predictions does not wait for.
    from safetensors.numpy import load

    try:
        tensors: dict[str, Any] = load(path.read_bytes())
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except (SafetensorError, OSError, KeyError):
        raise ValueError("is damaged: it cannot be read") from None
    logits, labels = tensors.get("logits"), tensors.get("labels")
    if logits is None or labels is None:
        raise ValueError("is damaged: it holds no logits or no labels")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels) or logits.shape[1] < 2:
        raise ValueError(f"is damaged: its logits are {logits.shape} and its labels {labels.shape}")
    if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ValueError(f"is damaged: a label is none of its {logits.shape[1]} classes")
    values = logits.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("is damaged: a logit is not a finite number")
    return values, labels.astype(np.int64)
