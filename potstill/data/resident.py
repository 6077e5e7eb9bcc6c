"""A data set on its device: splits as whole arrays, batches by gathering rows."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from potstill.data import sources
from potstill.data.arrays import Arrays
from potstill.data.augment import Augment
from potstill.data.order import rows as order
from potstill.data.spec import Data, content, validation_images
from potstill.errors import UserError
from potstill.seeds import fold
from potstill.types import Batch


@dataclass(frozen=True, eq=False)
class Split:
    """Images that serve one purpose.

    Attributes:
        name: `train`, `validation` or `test`.
        images: (N, C, H, W), uint8 or float32, on the device.
        labels: (N,), int64, on the device.
        index: (N,), int64, on the device: each image's place in the published split, which is the training split for
            both `train` and `validation`.
    """

    name: str
    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Resident:
    """A data set ready to be drawn from.

    Attributes:
        name: The name of its `Data`.
        classes: K, the number of classes.
        class_names: One name per class.
        shape: (C, H, W) of an image.
        mean: (C, 1, 1), float32, subtracted from pixels in [0, 1]; 0 for images given as floating point.
        std: (C, 1, 1), float32, what they are then divided by; 1 for images given as floating point.
        train: What is learned from.
        validation: What is chosen by, or None.
        test: What is reported.
        augment: Alters the training images, or None.
        available: Number of views `augment` has for this shape; 1 without.
    """

    name: str
    classes: int
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    train: Split
    validation: Split | None
    test: Split
    augment: Augment | None
    available: int

    def batch(self, split: Split, rows: Tensor, view: Tensor | None = None) -> Batch:
        """The named rows of a split, augmented, normalised; nothing waits for the device.

        Args:
            split: One of this set's splits.
            rows: (N,), int64, places in the split, on its device.
            view: (N,), int64, on the same device: which view of each image; None for the images as they are.

        Returns:
            Inputs (N, C, H, W) in float32, channels_last where C > 1; the view is 0 where none was given.
        """
        images = split.images.index_select(0, rows)
        if view is not None and self.augment is not None:
            images = self.augment(images, view)
        inputs = images.to(torch.float32)
        if images.dtype == torch.uint8:
            # In this order the result is bitwise that of torchvision's ToTensor and Normalize.
            inputs = inputs.div_(255).sub_(self.mean).div_(self.std)
        if self.shape[0] > 1:
            # Last, because CPUs take several times longer over arithmetic per channel in this layout.
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return Batch(inputs, split.labels[rows], split.index[rows], torch.zeros_like(rows) if view is None else view)


def load(data: Data, device: torch.device | str = "cpu") -> Resident:
    """The set on its device, whole.

    Raises:
        UserError: If the set is unknown, cannot be had, or is not the one whose content `data` names.
    """
    arrays = _arrays(data)
    place = torch.device(device)
    kept, held_out = _validation(data, len(arrays.y_train))
    mean, std = _normalisation(data, arrays)
    return Resident(
        name=data.name,
        classes=len(arrays.class_names),
        class_names=arrays.class_names,
        shape=arrays.shape,
        mean=mean.to(place),
        std=std.to(place),
        train=_split("train", arrays.x_train, arrays.y_train, kept, place),
        validation=_split("validation", arrays.x_train, arrays.y_train, held_out, place) if len(held_out) else None,
        test=_split("test", arrays.x_test, arrays.y_test, np.arange(len(arrays.y_test)), place),
        augment=data.augment,
        available=1 if data.augment is None else data.augment.count(arrays.shape),
    )


def _arrays(data: Data) -> Arrays:
    if data.arrays is None and data.name not in sources.names() and data.content is not None:
        raise UserError(
            f"The arrays of {data.name!r} are not kept in a record; give them again with Data.given(..., "
            f"name={data.name!r})."
        )
    arrays = sources.read(data.name) if data.arrays is None else data.arrays
    if (found := arrays.digest()) != content(data):
        raise UserError(
            f"The images and labels of {data.name!r} have content {found[:12]}, but {content(data)[:12]} was expected; "
            + (
                f"delete its files under {sources.root()} so that they are fetched anew."
                if data.arrays is None
                else "give the arrays that belong to it, or leave `content` out."
            )
        )
    return arrays


def _validation(data: Data, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Published places of the images to learn from and of the validation images, both ascending."""
    share = validation_images(data, count)
    if data.validation > 0 and not 0 < share < count:
        raise UserError(
            f"validation={data.validation} of {count} training images of {data.name!r} is {share} images; give a share "
            "that leaves at least one image on each side."
        )
    drawn = order(fold(0, "validation", data.name), 0, count)
    return np.sort(drawn[share:]), np.sort(drawn[:share])


def _normalisation(data: Data, arrays: Arrays) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel: the field's constants for named sets, else those of the train images."""
    channels = arrays.shape[0]
    if arrays.x_train.dtype != torch.uint8:
        return torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1)
    if data.arrays is None:
        known = sources.info(data.name)
        return torch.tensor(known.mean).view(-1, 1, 1), torch.tensor(known.std).view(-1, 1, 1)
    # Counted by grey value, so that the moments are exact and no second copy of the images is made.
    level = torch.arange(256, dtype=torch.float64) / 255
    share = torch.stack([torch.bincount(arrays.x_train[:, c].flatten(), minlength=256) for c in range(channels)])
    share = share / share.sum(1, keepdim=True)
    mean = (share * level).sum(1)
    std = (share * (level - mean.view(-1, 1)) ** 2).sum(1).sqrt()
    # A constant channel carries nothing; dividing it by 1 keeps it finite.
    std = torch.where(std > 0, std, 1)
    return mean.float().view(-1, 1, 1), std.float().view(-1, 1, 1)


def _split(name: str, images: Tensor, labels: Tensor, index: np.ndarray, device: torch.device) -> Split:
    places = torch.from_numpy(index.astype(np.int64))
    whole = len(places) == len(labels)
    return Split(
        name=name,
        images=(images if whole else images[places]).to(device),
        labels=(labels if whole else labels[places]).to(device),
        index=places.to(device),
    )
