"""What the losses of relations and features take at batch 512, forward and backward, above what they are given.

On CUDA it is the peak of the allocator; on the CPU the peak of the resident memory of a process of its own, which
counts what libraries take for themselves too. Written with broadcasting, NST and MMD would hold 8.6 GB
(N × C × C × HW), the angles of RKD .5 GB several times over (N³), and the memories that CRD compares with 4.3 GB on
each side (N × m × D).
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.rounds import Row
from benchmarks.table import Table
from potstill.methods.attention import attention_loss
from potstill.methods.cckernel import correlation_kernel_loss
from potstill.methods.correlation import correlation_loss
from potstill.methods.crd import CRD, Memory
from potstill.methods.fsp import fsp_loss
from potstill.methods.hint import hint_loss
from potstill.methods.ickd import ickd_loss
from potstill.methods.mmd import mmd_loss
from potstill.methods.nst import nst_loss
from potstill.methods.pkt import pkt_loss
from potstill.methods.rkd import rkd_angle_loss, rkd_distance_loss
from potstill.methods.similarity import similarity_loss
from potstill.types import Batch

REPETITIONS = 1
BATCH_SIZE, CHANNELS, SIDE = 512, 256, 8
POPULATION, CLASSES = 50_000, 100

Loss = Callable[[Tensor, Tensor], Tensor]


def _contrast(student: Tensor, teacher: Tensor) -> Tensor:
    """CRD as it trains: banks of CIFAR's size, 16384 negatives."""
    index = torch.arange(POPULATION, device=student.device)
    labels = index % CLASSES
    memory = Memory((student.shape[1], teacher.shape[1]), CRD(), labels, index, CLASSES).to(student.device)
    rows = torch.arange(len(student), device=student.device)
    return memory(student, teacher, Batch(student, labels[rows], rows, torch.zeros_like(rows)), 0)


MAPS: dict[str, Loss] = {
    "hint": hint_loss,
    "attention": attention_loss,
    "fsp": lambda s, t: fsp_loss((s, s), (t, t)),
    "nst": nst_loss,
    "mmd, gaussian": partial(mmd_loss, kernel="gaussian"),
    "mmd, polynomial": partial(mmd_loss, kernel="polynomial"),
    "mmd, linear": partial(mmd_loss, kernel="linear"),
    "ickd": ickd_loss,
    "similarity": similarity_loss,
}
VECTORS: dict[str, Loss] = {
    "rkd, distance": rkd_distance_loss,
    "rkd, angle": rkd_angle_loss,
    "pkt": pkt_loss,
    "cckernel": correlation_kernel_loss,
    "correlation": correlation_loss,
    "crd, with its banks": _contrast,
}


def measure(repetitions: int = REPETITIONS) -> Table:
    """Megabytes at the peak, each in a process of its own; the first row is the size of the two maps compared."""
    both = 2 * BATCH_SIZE * CHANNELS * SIDE**2 * 4 / 1e6
    rows = [Row(f"two maps of {CHANNELS} × {SIDE} × {SIDE}", (both,))]
    for name in (*MAPS, *VECTORS):
        rows.append(Row(name, tuple(_in_a_process(name) for _ in range(repetitions))))
    where = "cuda" if torch.cuda.is_available() else "cpu"
    title = f"Peak memory of a loss and its gradient, beyond its inputs: {BATCH_SIZE} images, float32, {where}"
    return Table(title, "MB", tuple(rows))


def _in_a_process(name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", name]
    # Freed memory shall go back to the system at once, and one thread's buffers be all there are.
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=quiet)
    return float(told.stdout.split()[-1])


def peak(loss: Loss, shape: tuple[int, ...], device: str) -> float:
    """Megabytes that this loss and its gradient take beyond their inputs, at most at one time."""
    torch.manual_seed(0)
    # A small batch first: what is loaded or set up once is not the loss's.
    for images in (4, shape[0]):
        student, teacher = (torch.randn(images, *shape[1:], device=device) for _ in range(2))
        student.requires_grad_()
        before = _reset(device)
        loss(student, teacher).backward()
    return (_highest(device) - before) / 1e6


def _reset(device: str) -> int:
    """Begin to watch; bytes in use now."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew.
    return _status("VmRSS")


def _highest(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(line: str) -> int:
    found = re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    asked = sys.argv[1]
    size = (BATCH_SIZE, CHANNELS, SIDE, SIDE) if asked in MAPS else (BATCH_SIZE, CHANNELS)
    torch.set_num_threads(1)
    print(peak({**MAPS, **VECTORS}[asked], size, "cuda" if torch.cuda.is_available() else "cpu"))
