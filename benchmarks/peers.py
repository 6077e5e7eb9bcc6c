"""A training loop in the manner of this field's usual repositories, to be compared with.

Images go one by one through PIL in two persistent worker processes, networks are float32 in the ordinary layout, the
teacher looks at every batch, and the loss is read back at every step. Threads and the memory are as PyTorch finds them,
in a process of its own: what Potstill sets for a process (see `potstill.machine`), these repositories do not.
"""

import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.pairs import Pair, images_of, lived_in
from potstill.models import build

WORKERS, AHEAD = 2, 2
TEMPERATURE = 4.0
CIFAR_COLOURS = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


class Images(Dataset[tuple[Tensor, int]]):
    """Bytes (N, C, H, W) behind transforms, an image at a time.

    Args:
        images: Of one channel or three.
        labels: (N,).
        colours: Mean and standard deviation of each channel.
        padding: Of crops, with flips; None where images are shown as they are.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        colours: tuple[Sequence[float], Sequence[float]],
        padding: int | None,
    ):
        self._images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = labels.numpy()
        moving = [transforms.RandomCrop(images.shape[-1], padding=padding), transforms.RandomHorizontalFlip()]
        still = [transforms.ToTensor(), transforms.Normalize(*colours)]
        self._transform = transforms.Compose([*([] if padding is None else moving), *still])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        image = self._images[place]
        shown = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
        return cast(Tensor, self._transform(shown)), int(self._labels[place])


def loader(data: Images, batch_size: int, *, learns: bool) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Batches of them from two persistent workers; in order and whole where nobody learns from them."""
    return cast(
        "DataLoader[tuple[Tensor, Tensor]]",
        DataLoader(
            data,
            batch_size=batch_size,
            shuffle=learns,
            num_workers=WORKERS,
            prefetch_factor=AHEAD,
            persistent_workers=True,
            drop_last=learns,
        ),
    )


@contextmanager
def beside(make: Callable[..., Callable[[], float]], *arguments: object) -> Generator[Callable[[], float]]:
    """What measures in a process of its own, while this lasts.

    Args:
        make: A function of a module, which makes what measures there.
        arguments: For it.
    """
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=_serve, args=(theirs, make, arguments))
    process.start()
    theirs.close()

    def once() -> float:
        ours.send(None)
        return float(ours.recv())

    try:
        yield once
    finally:
        ours.close()
        process.join()


def _serve(connection: Connection, make: Callable[..., Callable[[], float]], arguments: tuple[object, ...]) -> None:
    """Measure each time it is asked, until nobody is there to ask."""
    measure = make(*arguments)
    with suppress(EOFError):
        while True:
            connection.recv()
            connection.send(measure())


def steps(pair: Pair, device: str, batch_size: int) -> Callable[[], float]:
    """What measures the images per second of such a loop over the pair's steps."""
    arrays = images_of(pair).arrays
    assert arrays is not None
    data = Images(arrays.x_train, arrays.y_train, CIFAR_COLOURS, pair.padding)
    teacher = lived_in(pair).to(device)
    student = build(pair.student).to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    feed = _endless(loader(data, batch_size, learns=True))

    def once() -> float:
        for _ in range(WORKERS * AHEAD):  # What was made ready before is not made in the time that counts.
            next(feed)
        started = time.perf_counter()
        for _ in range(pair.peer_steps):
            step(student, teacher, optimizer, next(feed), device)
        return pair.peer_steps * batch_size / (time.perf_counter() - started)

    return once


def _endless(batches: "DataLoader[tuple[Tensor, Tensor]]") -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches


def step(
    student: nn.Module,
    teacher: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    device: str,
) -> tuple[float, float]:
    """A step of soft targets, whose loss and accuracy are read back for the progress bar."""
    images, labels = (part.to(device) for part in batch)
    with torch.no_grad():
        soft = teacher(images)
    logits = student(images)
    divergence = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, 1), F.softmax(soft / TEMPERATURE, 1), reduction="batchmean"
    )
    loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * TEMPERATURE**2 * divergence
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()
