"""The batches of a run, epoch by epoch: which images, which views of them, and what comes along with each."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from potstill.data.order import SHARED, Views, rows
from potstill.data.resident import Resident, Split
from potstill.data.spec import Data
from potstill.seeds import fold
from potstill.types import Batch


class Draw:
    """Batches drawn on the device, as a function of the run's seed and the epoch since it began.

    Where images come with companions (see `Data.companion`), the second half of a batch holds them in the same order.

    Attributes:
        walk: Each image's walk through its views; None without augmentation.
        steps: Batches of an epoch: a short last one counts, unless it is a single image, which batch norm cannot take.
    """

    def __init__(self, resident: Resident, data: Data, seed: int, batch_size: int):
        self._resident = resident
        self._companion = data.companion
        self._seed = seed
        self._batch_size = batch_size
        key = SHARED if data.sharing == "shared" else fold(seed, "views")
        self.walk = None if resident.augment is None else Views(key, resident.available, data.views)
        whole, rest = divmod(len(resident.train), batch_size)
        self.steps = whole + (rest > 1)

    def turns(self, epoch: int) -> tuple[int, ...]:
        """How far along their walks the images of a batch are in a global epoch: of the drawn ones, of companions."""
        if self._companion == "view":
            return 2 * epoch, 2 * epoch + 1
        return (epoch,) if self._companion is None else (epoch, epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of a global epoch from the `start`-th on."""
        train = self._resident.train
        device = train.labels.device
        order = torch.from_numpy(rows(self._seed, epoch, len(train))).to(device)
        beside = order
        if self._companion == "classmate":
            beside = torch.from_numpy(classmates(train.labels.cpu().numpy(), self._seed, epoch)).to(device)[order]
        shown = [views_at(self.walk, train, turn) for turn in self.turns(epoch)]
        for place in range(start, self.steps):
            here = slice(place * self._batch_size, (place + 1) * self._batch_size)
            drawn = [order[here], beside[here]][: len(shown)]
            view = [each[part] for each, part in zip(shown, drawn, strict=True) if each is not None]
            yield self._resident.batch(train, torch.cat(drawn), torch.cat(view) if view else None)

    def accompanied(self, batch: Batch) -> Batch:
        """A batch that is only looked at, in the form in which batches are learned from: each image twice, maybe."""
        if self._companion is None:
            return batch
        return Batch(*(torch.cat([part, part]) for part in batch))


def classmates(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """For each image another of its class, (N,): every image is somebody's, and a few are their own.

    Args:
        labels: (N,).
        seed: The run's.
        epoch: Since the run began.
    """
    found = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        found[members] = members[rows(fold(seed, "classmates", int(label)), epoch, len(members))]
    return found


def views_at(walk: Views | None, split: Split, turn: int) -> Tensor | None:
    """Which view each image of a split shows at a turn of its walk, (N,), on its device; None without augmentation."""
    if walk is None:
        return None
    return torch.from_numpy(walk.at(split.index.cpu().numpy(), turn)).to(split.labels.device)
