"""The named sets: what is known of them without loading, and where they come from."""

import difflib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from potstill.data.arrays import Arrays
from potstill.data.order import rows
from potstill.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is known of a named set without loading it.

    Attributes:
        name: Its name in `Data`.
        title: Its name in print.
        folder: Folder below `root()` that holds its files; empty if it ships with scikit-learn.
        classes: Number of classes.
        shape: (C, H, W) of an image.
        train: Number of training images.
        test: Number of test images.
        mean: Per channel, of pixels in [0, 1]: the constants that published results are obtained with.
        std: The same, standard deviation.
        content: `Arrays.digest()` of the published set.
    """

    name: str
    title: str
    folder: str
    classes: int
    shape: tuple[int, int, int]
    train: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    content: str


_DIGITS = Published(
    name="digits",
    title="Digits (UCI, scikit-learn)",
    folder="",
    classes=10,
    shape=(1, 8, 8),
    train=1197,
    test=600,
    mean=(0.2873,),
    std=(0.3540,),
    content="7e77c8e870c380397345cc765fb66c28694c7b3814580e07fd6a19bcac2a59bc",
)
_MNIST = Published(
    name="mnist",
    title="MNIST",
    folder="MNIST",
    classes=10,
    shape=(1, 28, 28),
    train=60_000,
    test=10_000,
    mean=(0.1307,),
    std=(0.3081,),
    content="03d6b6fdff6df5060a5baeca5ee9c48844d5f984571a0d8f2d6d75510d9a2cf5",
)
_FASHION_MNIST = Published(
    name="fashion_mnist",
    title="Fashion-MNIST",
    folder="FashionMNIST",
    classes=10,
    shape=(1, 28, 28),
    train=60_000,
    test=10_000,
    mean=(0.2860,),
    std=(0.3530,),
    content="e377122625dd16b4c9f3a38c568044e77e3b1cdf5eafa47362192f7efe472263",
)
_CIFAR10 = Published(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    classes=10,
    shape=(3, 32, 32),
    train=50_000,
    test=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    content="939d359bc83ede8da0b23b2f745cbfd0241bf973749cc9cd3c821db41f35407c",
)
_CIFAR100 = Published(
    name="cifar100",
    title="CIFAR-100",
    folder="cifar-100-python",
    classes=100,
    shape=(3, 32, 32),
    train=50_000,
    test=10_000,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    content="395a4f44c0fcd71cf8958f1443059e69c92d3379b31103932e94d43d9eae59ea",
)
_SOURCES = {source.name: source for source in (_DIGITS, _MNIST, _FASHION_MNIST, _CIFAR10, _CIFAR100)}


def names() -> tuple[str, ...]:
    """The sets that can be had by name."""
    return tuple(_SOURCES)


def info(name: str) -> Published:
    """What is known of a named set; `UserError` with the nearest names if there is none of that name."""
    if name in _SOURCES:
        return _SOURCES[name]
    near = difflib.get_close_matches(name.lower().replace("-", ""), _SOURCES, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"give one of {', '.join(_SOURCES)}."
    raise UserError(f"There is no data set named {name!r}; {hint}")


def root() -> Path:
    """Where the files of named sets are kept: the folder in `POTSTILL_DATA`, else `~/.cache/potstill`.

    Its layout is torchvision's, so any folder that has served as `root=` of its data sets will do.
    """
    given = os.environ.get("POTSTILL_DATA")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "potstill"


def read(name: str) -> Arrays:
    """A named set, from `root()` or else from the network; its content is left to the caller to check.

    Raises:
        UserError: If there is no such set, its files are damaged, or they are absent and cannot be fetched.
    """
    source = info(name)
    if source is _DIGITS:
        return _digits()
    if not (root() / source.folder).is_dir():
        _fetch(source)
    try:
        return _open(source, root(), download=False)
    except Exception as error:
        # torchvision raises whatever the damage led to: RuntimeError, ValueError, AssertionError, UnpicklingError.
        raise UserError(
            f"The files of {name!r} in {root() / source.folder} are incomplete or damaged ({_first_line(error)}); "
            "delete that folder and run again, or set POTSTILL_DATA to a folder that holds them whole."
        ) from error


def _fetch(source: Published) -> None:
    """Downloads beside the final place and renames, so that no other process ever sees half a set."""
    try:
        root().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root(), prefix=".fetch-") as part:
            _open(source, Path(part), download=True)
            # Where another process was faster, its copy is as good.
            if not (root() / source.folder).exists():
                shutil.move(Path(part) / source.folder, root() / source.folder)
    except Exception as error:
        raise UserError(
            f"{source.title} is not in {root() / source.folder} and could not be downloaded ({_first_line(error)}); "
            f"set POTSTILL_DATA to a folder that holds {source.folder}/, or run once with a network."
        ) from error


def _open(source: Published, folder: Path, *, download: bool) -> Arrays:
    # torchvision takes seconds to import, and most of the library never needs it.
    from torchvision import datasets

    kinds: dict[str, Callable[..., Any]] = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }
    train, test = (kinds[source.name](str(folder), train=part, download=download) for part in (True, False))
    parts = [np.asarray(part) for split in (train, test) for part in (split.data, split.targets)]
    # MNIST's published names are "0 - zero" and so on.
    return Arrays.of(parts, [str(name).split(" - ")[0] for name in train.classes])


def _digits() -> Arrays:
    """The 1,797 images of scikit-learn, 60 of each class for testing; both splits keep the publisher's order.

    Pixels, 0 to 16 as published, are multiplied by 15.
    """
    from sklearn.datasets import load_digits

    published = cast(Any, load_digits())
    images: npt.NDArray[np.uint8] = (published.images * 15).astype(np.uint8)
    labels: npt.NDArray[np.int64] = published.target.astype(np.int64)
    drawn = rows(0, 0, len(labels))
    test = np.sort(np.concatenate([drawn[labels[drawn] == k][:60] for k in range(10)]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Arrays.of((images[train], labels[train], images[test], labels[test]), [str(k) for k in range(10)])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
