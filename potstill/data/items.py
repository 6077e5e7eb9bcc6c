"""Map-style data sets, whose items are (image, label), read into arrays once."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from potstill.errors import UserError

# Items read twice, to notice a random transform: one flip in two goes unseen with probability 2⁻¹⁶.
_PROBED = 16


def read(train: Any, test: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any]]:
    """`x_train, y_train, x_test, y_test` of a pair of data sets, every item read once.

    Args:
        train: Anything with `len` and `[position]` whose items are (image, label): the image a PIL image (grey, RGB or
            RGBA), or a uint8 or floating-point tensor or array; the label an integer.
        test: The same, for the test split.

    Raises:
        UserError: Where an item is something else, sizes differ, or reading an item again gives another image.
    """
    return *_split(train, "train"), *_split(test, "test")


def _split(data: Any, split: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    try:
        count = len(data)
    except TypeError:
        raise UserError(
            f"The {split} data set is a {type(data).__name__} without a length; give a map-style data set (`len` and "
            "`[position]`), or arrays."
        ) from None
    if count == 0:
        raise UserError(f"The {split} data set is empty; give at least one (image, label) item.")
    images: list[npt.NDArray[Any]] = []
    labels: list[int] = []
    for position in range(count):
        image, label = _item(data[position], f"Item {position} of the {split} data set")
        if images and (image.shape != images[0].shape or image.dtype != images[0].dtype):
            raise UserError(
                f"Item {position} of the {split} data set is {image.shape} {image.dtype.name} and item 0 is "
                f"{images[0].shape} {images[0].dtype.name}; give images of one size and kind (resize them first)."
            )
        images.append(image)
        labels.append(label)
    _check_constant(data, images[:_PROBED], split)
    return np.stack(images), np.array(labels, dtype=np.int64)


def _check_constant(data: Any, images: Sequence[npt.NDArray[Any]], split: str) -> None:
    for position, image in enumerate(images):
        again, _ = _item(data[position], f"Item {position} of the {split} data set")
        if not np.array_equal(again, image, equal_nan=image.dtype.kind == "f"):
            raise UserError(
                f"Item {position} of the {split} data set is another image when read again; leave random transforms "
                "out of the data set and pass `augment=` instead."
            )


def _item(item: Any, where: str) -> tuple[npt.NDArray[Any], int]:
    pair: Any = item
    if not isinstance(item, Sequence) or len(pair) != 2:
        raise UserError(f"{where} is a {type(pair).__name__}; give (image, label) pairs.")
    return _image(pair[0], where), _label(pair[1], where)


def _image(image: Any, where: str) -> npt.NDArray[Any]:
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        return (image.float() if image.is_floating_point() else image).numpy().copy()
    if isinstance(image, np.ndarray):
        return np.array(cast(npt.NDArray[Any], image))
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise UserError(
            f"The image of {where[0].lower()}{where[1:]} is a {type(image).__name__}; give a PIL image, a tensor or an "
            "array."
        )
    if image.mode not in ("L", "RGB", "RGBA"):
        raise UserError(f"{where} is a PIL image of mode {image.mode}; convert it to L, RGB or RGBA.")
    return np.array(image)


def _label(label: Any, where: str) -> int:
    scalar = isinstance(label, Tensor | np.ndarray | np.generic) and label.ndim == 0
    value = cast(Any, label.item() if scalar else label)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"The label of {where[0].lower()}{where[1:]} is {value!r}; give an integer, its class.")
    return value
