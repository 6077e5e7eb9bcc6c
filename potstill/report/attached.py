"""What `potstill analyze` wrote into a run folder, read without torch and checked.

analysis/cka.json             similarity of the student's layers to the teacher's, before and after training
analysis/pictures.json        names of the classes, and some test images as PNG
analysis/teacher.safetensors  the teacher's test logits, where no run folder of its own has them
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from potstill.png import SIGNATURE
from potstill.record import FORMAT, Json, read_json

FOLDER = "analysis"
CKA = "cka.json"
PICTURES = "pictures.json"
TEACHER = "teacher.safetensors"


@dataclass(frozen=True, eq=False)
class Similarity:
    """Linear CKA of every layer of a student with every layer of its teacher.

    Attributes:
        key: What it was computed from; equal keys have equal numbers.
        student: Names of the student's layers.
        teacher: Names of the teacher's.
        before: With the student's initial weights, (student, teacher); NaN where a layer does not vary.
        after: With its final ones.
        images: How many test images it was computed on.
    """

    key: str
    student: tuple[str, ...]
    teacher: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    images: int


@dataclass(frozen=True)
class Pictures:
    """Test images of the data.

    Attributes:
        key: Which data.
        classes: The name of each class.
        images: PNG by place in the test split.
    """

    key: str
    classes: tuple[str, ...]
    images: Mapping[int, bytes]


def read_similarity(folder: Path) -> Similarity:
    """A run's `cka.json`.

    Raises:
        ValueError: it is missing or damaged.
    """
    value = _read(folder / FOLDER / CKA)
    try:
        student, teacher = (tuple(map(str, value[side])) for side in ("student", "teacher"))
        before, after = (np.array(value[time], dtype=np.float64) for time in ("before", "after"))
        found = Similarity(str(value["key"]), student, teacher, before, after, int(value["images"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError("is damaged: it does not hold two tables of numbers") from None
    shape = (len(student), len(teacher))
    if before.shape != shape or after.shape != shape or not (student and teacher):
        raise ValueError(f"is damaged: its tables are not {shape[0]} × {shape[1]}")
    if (np.abs(np.stack([before, after])) > 1 + 1e-6).any():
        raise ValueError("is damaged: a similarity is not within -1 and 1")
    return found


def read_pictures(folder: Path) -> Pictures:
    """A run's `pictures.json`.

    Raises:
        ValueError: it is missing or damaged.
    """
    value = _read(folder / FOLDER / PICTURES)
    try:
        names = cast(list[str], value["classes"])
        encoded = cast(dict[str, str], value["pictures"])
        images = {int(place): base64.b64decode(text, validate=True) for place, text in encoded.items()}
        found = Pictures(str(value["key"]), tuple(map(str, names)), images)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise ValueError("is damaged: it does not hold names and pictures") from None
    if not all(image.startswith(SIGNATURE) for image in images.values()):
        raise ValueError("is damaged: a picture is no PNG")
    return found


def similarity_json(found: Similarity) -> Json:
    """As `cka.json` has it."""
    tables = {"before": _table(found.before), "after": _table(found.after)}
    layers = {"student": list(found.student), "teacher": list(found.teacher)}
    return {"format": FORMAT, "key": found.key, "images": found.images, **layers, **tables}


def pictures_json(found: Pictures) -> Json:
    """As `pictures.json` has it."""
    encoded = {str(place): base64.b64encode(found.images[place]).decode() for place in sorted(found.images)}
    return {"format": FORMAT, "key": found.key, "classes": list(found.classes), "pictures": encoded}


def _table(values: NDArray[np.float64]) -> list[list[float | None]]:
    """Rounded, so that another order of additions gives the same file."""
    return [[None if np.isnan(value) else round(float(value), 4) for value in line] for line in values]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ValueError("is missing")
    value = read_json(path)
    if value is None:
        raise ValueError("is damaged: it is not JSON, or was cut short")
    if value.get("format") != FORMAT:
        raise ValueError("was written by another version of Potstill")
    return value
