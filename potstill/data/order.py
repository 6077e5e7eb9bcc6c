"""Which image comes when, and as which view: pure functions of seeds and the epoch, alike on every platform.

Both rest on splitmix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014) written out
here, because NumPy may change the streams of its generators between versions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

from potstill.errors import UserError
from potstill.seeds import fold

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
# Measured on 50,000 images: from five rounds on, single views and pairs of successive views pass a chi-square test.
_ROUNDS = 8

SHARED = fold(0, "views")
"""The key of the walk that all runs share."""

_Permutation = Callable[[npt.NDArray[np.uint64], npt.NDArray[np.uint64]], npt.NDArray[np.uint64]]


def rows(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order of one epoch: a permutation of `range(count)`.

    Args:
        seed: The run's seed.
        epoch: Epochs since the run began, over all stages, so that runs with unlike stages see the same batches.
        count: Number of training rows.

    Returns:
        (count,), int64.
    """
    start = np.uint64(fold(seed, "order", epoch))
    # splitmix64 is a bijection, so the keys are distinct and the order has no ties.
    keys = mix(start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
    return np.argsort(keys).astype(np.int64)


@dataclass(frozen=True)
class Views:
    """Each image's walk through its augmentations: a seeded permutation of its views, repeated when it ends.

    The permutation of an image depends on the key, its published index and `available` alone: not on the subset that
    is asked for, the number of epochs or the limit. Nothing is stored; an element is computed when asked for, by an
    alternating Feistel network over Z_a × Z_b with cycle walking (Black and Rogaway, *Ciphers with Arbitrary Finite
    Domains*, CT-RSA 2002).

    Attributes:
        key: Seed of the permutations: one for all runs (`shared`) or with the run's seed folded in (`per-seed`).
        available: Number of views the augmentation has; 1 without augmentation.
        limit: How many of them each image may show, the first of its permutation; None for all.
    """

    key: int
    available: int
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.available <= 2**62:
            raise UserError(f"Views was given available={self.available}; give a number of views of at least 1.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"Views was given limit={self.limit}; give at least 1 view per image, or None for all.")

    @property
    def count(self) -> int:
        """Views that each image shows before it repeats one."""
        return self.available if self.limit is None else min(self.limit, self.available)

    def at(self, index: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """The view of each image at one epoch.

        Args:
            index: (N,), places in the published split.
            epoch: Epochs since the run began, over all stages (or any other count of turns, for several views a step).

        Returns:
            (N,), int64, each in [0, available).
        """
        if self.available == 1:
            return np.zeros(len(index), dtype=np.int64)
        return self._walked(index, np.full(len(index), epoch % self.count, dtype=np.int64), self._permute)

    def places(self, index: npt.NDArray[np.int64], view: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When each image shows a view: what `at` takes to answer it, whatever the limit.

        Args:
            index: (N,), places in the published split.
            view: (N,), each in [0, available).

        Returns:
            (N,), int64, each in [0, available).
        """
        if self.available == 1:
            return np.zeros(len(index), dtype=np.int64)
        return self._walked(index, view, self._permute_back)

    def _walked(
        self, index: npt.NDArray[np.int64], start: npt.NDArray[np.int64], permute: _Permutation
    ) -> npt.NDArray[np.int64]:
        own = mix(np.uint64(fold(self.key, "views")) + (index.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN))
        found = permute(own, start.astype(np.uint64))
        # Places beyond the last view are walked on from: the permutation of the larger grid, cut down to the views.
        while (beyond := np.flatnonzero(found >= np.uint64(self.available))).size:
            found[beyond] = permute(own[beyond], found[beyond])
        return found.astype(np.int64)

    def _permute(self, own: npt.NDArray[np.uint64], place: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """One pass of each image's permutation over a·b places, a·b the least such grid that holds every view."""
        a, b = self._grid
        left, right = place // np.uint64(b), place % np.uint64(b)
        for turn in range(_ROUNDS):
            left = (left + _below(a, own, right, 2 * turn)) % np.uint64(a)
            right = (right + _below(b, own, left, 2 * turn + 1)) % np.uint64(b)
        return left * np.uint64(b) + right

    def _permute_back(self, own: npt.NDArray[np.uint64], place: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """What `_permute` made into `place`."""
        a, b = self._grid
        left, right = place // np.uint64(b), place % np.uint64(b)
        for turn in reversed(range(_ROUNDS)):
            right = (right + np.uint64(b) - _below(b, own, left, 2 * turn + 1)) % np.uint64(b)
            left = (left + np.uint64(a) - _below(a, own, right, 2 * turn)) % np.uint64(a)
        return left * np.uint64(b) + right

    @property
    def _grid(self) -> tuple[int, int]:
        a = isqrt(self.available - 1) + 1
        return a, -(-self.available // a)


def _below(bound: int, own: npt.NDArray[np.uint64], half: npt.NDArray[np.uint64], turn: int) -> npt.NDArray[np.uint64]:
    """A number in [0, bound) that depends on the image's own key, the half and the turn; bound < 2³²."""
    mixed = mix(own + half * np.uint64(_GOLDEN) + np.uint64(turn * 0xD1B54A32D192ED03 & _MASK))
    return ((mixed >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)


def mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finisher of splitmix64, a bijection of 64-bit numbers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
