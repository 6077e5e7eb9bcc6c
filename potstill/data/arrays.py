"""Images and labels in their one canonical form, checked where they enter."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from potstill.errors import UserError

# Channel counts that tell which axis of a four-dimensional array is the channel axis.
_CHANNELS = (1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class Arrays:
    """A train and a test split in published order, on the CPU.

    Attributes:
        x_train: Images (N, C, H, W), uint8 (0 to 255) or float32 (already normalised).
        y_train: Labels (N,), int64, each in [0, classes).
        x_test: Images (M, C, H, W), of the same shape and dtype.
        y_test: Labels (M,).
        class_names: One name per class.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    class_names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, c, h, w = self.x_train.shape
        return c, h, w

    def digest(self) -> str:
        """SHA-256 (hexadecimal) over both splits and the number of classes, the same on every machine."""
        total = hashlib.sha256(f"{len(self.class_names)}".encode())
        for part in (self.x_train, self.y_train, self.x_test, self.y_test):
            held = part.numpy()
            total.update(f"{held.dtype.name}{held.shape}".encode())
            total.update(np.ascontiguousarray(held, held.dtype.newbyteorder("<")).data)
        return total.hexdigest()

    @staticmethod
    def of(parts: Sequence[Any], class_names: Sequence[str] | None = None) -> "Arrays":
        """Copies of the user's arrays in canonical form.

        Args:
            parts: `x_train, y_train, x_test, y_test`, NumPy arrays or tensors. Images are (N, H, W), (N, C, H, W), or
                (N, H, W, C) where that cannot be mistaken; uint8, or floating point and already normalised.
            class_names: One name per class; without them the classes are those up to the largest training label.

        Raises:
            UserError: Where the arrays do not fit this description or one another; the sentence says which and why.
        """
        x_train, y_train, x_test, y_test = parts
        images = {"train": _pixels(x_train, "train"), "test": _pixels(x_test, "test")}
        first, second = images["train"], images["test"]
        if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
            raise UserError(
                f"The train images are {_describe(first)} and the test images {_describe(second)}; give both splits "
                "the same image shape and dtype."
            )
        axes = _layout(first.shape)
        labels = {
            "train": _classes(y_train, "train", len(first)),
            "test": _classes(y_test, "test", len(second)),
        }
        count = len(class_names) if class_names is not None else int(labels["train"].max()) + 1
        _check_range(labels, count, named=class_names is not None)
        tensors = {split: torch.from_numpy(_channels_first(held, axes)) for split, held in images.items()}
        return Arrays(
            x_train=tensors["train"],
            y_train=torch.from_numpy(labels["train"]),
            x_test=tensors["test"],
            y_test=torch.from_numpy(labels["test"]),
            class_names=tuple(class_names) if class_names is not None else tuple(str(k) for k in range(count)),
        )


def _numpy(given: Any, what: str) -> npt.NDArray[Any]:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return (given.float() if given.is_floating_point() else given).numpy()
    if isinstance(given, np.ndarray):
        return cast(npt.NDArray[Any], given)
    raise UserError(f"The {what} are a {type(given).__name__}; give a NumPy array or a tensor.")


def _pixels(given: Any, split: str) -> npt.NDArray[Any]:
    """The images as uint8 or float32, in the layout they came in."""
    held = _numpy(given, f"{split} images")
    if held.ndim not in (3, 4) or 0 in held.shape:
        raise UserError(
            f"The {split} images have shape {held.shape}; give at least one image, as (N, H, W), (N, C, H, W) or "
            "(N, H, W, C)."
        )
    if held.dtype == np.uint8:
        return held
    if held.dtype.kind != "f":
        raise UserError(
            f"The {split} images are {held.dtype.name}; give uint8 from 0 to 255, or floating point already normalised."
        )
    with np.errstate(over="ignore"):
        held = held.astype(np.float32, copy=False)
    if not np.isfinite(held).all():
        raise UserError(f"The {split} images hold NaN or infinite values; give finite ones.")
    return held


def _layout(shape: tuple[int, ...]) -> str:
    """Where the channels are: `none`, `first` or `last`."""
    if len(shape) == 3:
        return "none"
    _, a, b, c = shape
    # A reading is believed on the channel count; where that leaves two or none, on the image being square.
    for first, last in ((a in _CHANNELS, c in _CHANNELS), (b == c, a == b)):
        if first != last:
            return "first" if first else "last"
    raise UserError(
        f"Images of shape {shape} could be (N, C, H, W) or (N, H, W, C); give grey images as (N, H, W) and others with "
        "1 to 4 channels on an axis that cannot be mistaken for height or width."
    )


def _channels_first(held: npt.NDArray[Any], axes: str) -> npt.NDArray[Any]:
    if axes == "none":
        held = held[:, None]
    elif axes == "last":
        held = held.transpose(0, 3, 1, 2)
    return np.array(held, order="C")


def _classes(given: Any, split: str, images: int) -> npt.NDArray[np.int64]:
    held = _numpy(given, f"{split} labels")
    if held.dtype.kind not in "iu":
        raise UserError(f"The {split} labels are {held.dtype.name}; give integers, the class of each image.")
    if held.shape != (images,):
        raise UserError(
            f"There are {images} {split} images but the {split} labels have shape {held.shape}; give one integer per "
            f"image, shape ({images},)."
        )
    return np.array(held, dtype=np.int64)


def _check_range(labels: dict[str, npt.NDArray[np.int64]], count: int, *, named: bool) -> None:
    for split, held in labels.items():
        low, high = int(held.min()), int(held.max())
        if low < 0:
            raise UserError(f"The {split} labels go down to {low}; give classes counted from 0.")
        if high >= count:
            source = f"there are {count} class names" if named else f"the training labels end at {count - 1}"
            raise UserError(f"The {split} labels go up to {high} but {source}; give labels from 0 to {count - 1}.")
    if count < 2:
        raise UserError("All labels are 0; give at least two classes.")


def _describe(held: npt.NDArray[Any]) -> str:
    return f"{held.shape[1:]} {held.dtype.name}"
