"""A training loop in the manner of this field's usual repositories, to be compared with.

Images go one by one through PIL in two persistent worker processes, networks are float32 in the ordinary layout, the
teacher looks at every batch, and the loss is read back at every step. Threads are PyTorch's default. The process is
that of the other measurements, so freed memory is kept here too (see `potstill.machine`), as these repositories do not.
"""

import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.pairs import BATCH_SIZE, Bench
from potstill.machine import DEFAULT_THREADS
from potstill.models import build

WORKERS, AHEAD = 2, 2
TEMPERATURE = 4.0


class _Images(Dataset[tuple[Tensor, int]]):
    """Arrays of bytes (N, H, W, 3) behind transforms, an image at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, padding: int):
        self._images, self._labels = images, labels
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        image = cast(Tensor, self._transform(Image.fromarray(self._images[place])))
        return image, int(self._labels[place])


def peer_style(bench: Bench) -> Callable[[], float]:
    """What measures the images per second of such a loop over the pair's steps."""
    train, device = bench.resident.train, bench.machine.device
    images = train.images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    data = _Images(images, train.labels.cpu().numpy(), bench.pair.padding)
    loader = DataLoader(
        data,
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=WORKERS,
        prefetch_factor=AHEAD,
        persistent_workers=True,
        drop_last=True,
    )
    torch.manual_seed(0)
    teacher, student = bench.network.to(device).eval(), build(bench.pair.student).to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    feed = _endless(cast("DataLoader[tuple[Tensor, Tensor]]", loader))

    def once() -> float:
        torch.set_num_threads(DEFAULT_THREADS)
        for _ in range(WORKERS * AHEAD):  # What was made ready before is not made in the time that counts.
            next(feed)
        started = time.perf_counter()
        for _ in range(bench.pair.peer_steps):
            _step(student, teacher, optimizer, next(feed), device)
        seconds = time.perf_counter() - started
        bench.machine.activate()
        return bench.pair.peer_steps * BATCH_SIZE / seconds

    return once


def _endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def _step(
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
