"""Where a run's numbers may go beside its record, and what of them goes there."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from potstill.png import png
from potstill.record import Json

Setting = bool | int | float | str
"""A hyper-parameter as such places know them."""

CONFUSION = "test/confusion"
"""What the picture of the test split's confusions is called."""

ABOUT_CONFUSION = (
    "Rows are labels, columns answers, both in the order of the classes. Blue is right, orange wrong; the tint is the "
    "square root of the share of a label's images."
)

_MEASURES = {
    "test_accuracy": "test/accuracy",
    "test_nll": "test/nll",
    "ece": "test/ece",
    "agreement": "test/agreement",
    "kl_to_teacher": "test/kl_to_teacher",
    "best_validation_test_accuracy": "test/accuracy_of_best_validation",
}

_RIGHT, _WRONG = np.array([0, 114, 178]), np.array([213, 94, 0])
_SIDE = 320


@dataclass(frozen=True)
class Start:
    """What there is to know of a run when it begins, or goes on.

    Attributes:
        folder: The run folder.
        name: The run's label.
        settings: Its hyper-parameters, see `settings`.
        epoch: Finished epochs.
    """

    folder: Path
    name: str
    settings: Mapping[str, Setting]
    epoch: int


class Outlet(abc.ABC):
    """One such place, for one run; whatever it raises ends it and nothing else.

    Attributes:
        reached: The last epoch that it knows of.
    """

    reached: int

    @abc.abstractmethod
    def tell(self, epoch: int, time: float, values: Mapping[str, float]) -> None:
        """The numbers of an epoch, at its end, in seconds since 1970."""

    @abc.abstractmethod
    def show(self, epoch: int, picture: bytes) -> None:
        """The confusions on the test split, a PNG."""

    @abc.abstractmethod
    def end(self, epoch: int, values: Mapping[str, float], finished: bool) -> None:
        """The numbers of the test split; or none, where the run diverged."""


def values(line: Json) -> dict[str, float]:
    """The numbers of a line of `metrics.jsonl`, by name: `train/loss`, `validation/terms/kd`, …."""
    told: dict[str, float] = {"learning_rate": line["learning_rate"], "seconds": line["seconds"]}
    for split in ("train", "validation"):
        if (part := cast(Json | None, line[split])) is not None:
            told |= {f"{split}/{key}": value for key, value in part.items() if key != "terms"}
            told |= {f"{split}/terms/{term}": loss for term, loss in part["terms"].items()}
    return told


def measures(result: Json) -> dict[str, float]:
    """What `result.json` says of the test split, as far as it was measured."""
    return {name: result[key] for key, name in _MEASURES.items() if result.get(key) is not None}


def settings(spec: Json) -> dict[str, Setting]:
    """The specification in `run.json`, flat: `student`, `kd.temperature`, `optimizer.momentum`, `seed`, ….

    What belongs to one of several stages has its name, or its number where two are called the same, before it.
    """
    teacher = spec["teacher"]
    flat: dict[str, Setting] = {
        "name": spec["name"],
        "seed": spec["seed"],
        "student": spec["student"]["name"],
        "data": spec["data"]["name"],
        "batch_size": spec["batch_size"],
        "teacher": "none" if teacher is None else _kind(teacher),
    }
    if teacher is not None and "run" in teacher:
        flat["teacher"] = teacher["run"]["student"]["name"]
    stages = spec["stages"]
    names = [stage["name"] for stage in stages]
    for place, stage in enumerate(stages, start=1):
        name = stage["name"] if len(set(names)) == len(names) else str(place)
        prefix = f"{name}." if len(stages) > 1 else ""
        flat |= {f"{prefix}{key}": value for key, value in _stage(stage).items()}
    return flat


def _stage(stage: Json) -> dict[str, Setting]:
    optimizer = stage["optimizer"]
    flat: dict[str, Setting] = {
        "epochs": stage["epochs"],
        "optimizer": optimizer["name"],
        "learning_rate": optimizer["learning_rate"],
        "schedule": _kind(stage["schedule"]),
    }
    flat |= {f"optimizer.{key}": value for key, value in _scalars(optimizer["options"]).items()}
    for term in stage["terms"]:
        label = term["name"] or _kind(term).lower()
        flat |= {f"{label}.{key}": value for key, value in _scalars(term).items() if key not in ("is", "name")}
    return flat


def _kind(spec: Json) -> str:
    """The class of a part, as `package.module:Class` has it under "is"."""
    return str(spec["is"]).rpartition(":")[2]


def _scalars(spec: Json) -> dict[str, Setting]:
    return {key: value for key, value in spec.items() if isinstance(value, bool | int | float | str)}


def confusion(answers: NDArray[Any], labels: NDArray[Any], classes: int) -> bytes:
    """A picture of which class (row) is taken for which (column), as PNG; about 320 pixels wide, or one a class.

    Args:
        answers: (N,), classes.
        labels: (N,), classes.
        classes: K.
    """
    counts = np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # The square root, so that one image in a hundred can be seen.
    tint = np.sqrt(shares)[..., None]
    colours = np.where(np.eye(classes, dtype=bool)[..., None], _RIGHT, _WRONG)
    cells = np.rint(255 * (1 - tint) + colours * tint).astype(np.uint8)
    side = max(_SIDE // classes, 1)
    pixels = cells.repeat(side, axis=0).repeat(side, axis=1)
    if side >= 8:
        pixels[::side] = pixels[:, ::side] = 225
    return png(pixels)
