"""What a run learns from, as plain data: the set, its validation share, its augmentation and who shares its views."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from potstill.codec import LATER
from potstill.data import items, sources
from potstill.data.arrays import Arrays
from potstill.data.augment import Augment
from potstill.errors import UserError
from potstill.types import Companion


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set and how it is shown.

    Attributes:
        name: One of `potstill.data.names()`, or a label for arrays of the user's own (see `Data.given`).
        validation: Share of the published training split kept for validation, in [0, 1). Which images these are
            depends on the name alone, never on a seed, and a smaller share is part of a larger one.
        augment: Alters the training images; None shows them as they are.
        views: At most how many views of each image are shown, at least 1; None for all that `augment` has.
        companion: What comes along with each image, in the second half of a batch: another "view" of the image, or a
            "classmate", another image of its class; None for nothing.
        sharing: Whether every run seed walks through the same views in the same order, or each seed in its own.
        content: Identity of the images and labels (`content`); None for a named set takes the published one.
        arrays: The user's own arrays; no part of equality, and not recorded.
    """

    name: str
    validation: float = 0.0
    augment: Augment | None = None
    views: int | None = None
    sharing: Literal["shared", "per-seed"] = "shared"
    companion: Companion | None = field(default=None, metadata=LATER)
    content: str | None = None
    arrays: Arrays | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise UserError(f"Data was given validation={self.validation}; give a share from 0 to below 1.")
        if self.views is not None and self.views < 1:
            raise UserError(f"Data was given views={self.views}; give at least 1 view per image, or None for all.")
        if self.sharing not in ("shared", "per-seed"):
            raise UserError(f"Data was given sharing={self.sharing!r}; give 'shared' or 'per-seed'.")
        if self.companion not in (None, *get_args(Companion)):
            raise UserError(f"Data was given companion={self.companion!r}; give 'view', 'classmate' or None.")
        if self.companion == "view" and self.augment is None:
            raise UserError(
                f"The images of {self.name!r} shall come with another view, but there is a single one; give the data "
                "augment=CropFlip(), say."
            )
        # A record of a run on the user's own arrays has their content but neither the arrays nor a known name.
        if self.arrays is None and self.content is None:
            sources.info(self.name)
        if self.arrays is not None and self.content is None:
            object.__setattr__(self, "content", self.arrays.digest())

    @staticmethod
    def given(
        data: Sequence[Any],
        *,
        name: str = "given",
        class_names: Sequence[str] | None = None,
        validation: float = 0.0,
        augment: Augment | None = None,
        views: int | None = None,
        sharing: Literal["shared", "per-seed"] = "shared",
    ) -> "Data":
        """A set of the user's own, copied into memory.

        Args:
            data: `(x_train, y_train, x_test, y_test)`, NumPy arrays or tensors as `Arrays.of` describes them, or
                `(train, test)`, map-style data sets as `items.read` describes them.
            name: A label; it decides which images are the validation images.
            class_names: One name per class; without them the classes are those up to the largest training label.
            validation: See `Data`.
            augment: See `Data`.
            views: See `Data`.
            sharing: See `Data`.

        Raises:
            UserError: Where the images and labels do not fit one another; the sentence says how.
        """
        if len(data) not in (2, 4):
            raise UserError(
                f"Data.given was given {len(data)} parts; give (x_train, y_train, x_test, y_test), or a pair of data "
                "sets (train, test)."
            )
        if name in sources.names():
            raise UserError(f"{name!r} is the name of a published set; give your own arrays another name.")
        arrays = Arrays.of(items.read(*data) if len(data) == 2 else data, class_names)
        return Data(
            name=name,
            validation=validation,
            augment=augment,
            views=views,
            sharing=sharing,
            content=arrays.digest(),
            arrays=arrays,
        )


def content(data: Data) -> str:
    """SHA-256 that identifies the images and labels, known without loading them."""
    return data.content if data.content is not None else sources.info(data.name).content


def train_images(data: Data) -> int:
    """How many images a student learns from, without loading the set: the training split less validation."""
    count = len(data.arrays.y_train) if data.arrays is not None else sources.info(data.name).train
    return count - validation_images(data, count)


def validation_images(data: Data, count: int) -> int:
    """How many of so many published training images are kept for validation."""
    return round(data.validation * count)


def shape_of(data: Data) -> tuple[int, int, int]:
    """(C, H, W) of an image, without loading the set."""
    return data.arrays.shape if data.arrays is not None else sources.info(data.name).shape


def classes_of(data: Data) -> int:
    """K, without loading the set."""
    return len(data.arrays.class_names) if data.arrays is not None else sources.info(data.name).classes
