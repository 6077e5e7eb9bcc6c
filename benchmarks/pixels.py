"""What it brings to take convolutions of small maps in ways of our own (`potstill.pixels`, `potstill.narrow`)."""

import time
from functools import partial

import torch
from torch import nn

from benchmarks.rounds import in_turn
from benchmarks.table import Table
from potstill import narrow, pixels
from potstill.machine import Choices, Machine
from potstill.models import Network, build

REPETITIONS = 7
BATCH_SIZE = 128
STEPS = 3
NETWORKS = ("torchvision:resnet18", "plain_conv", "resnet8x4")
WAYS = {"as they are": None, "products": pixels.Conv2d, "products, side by side": narrow.Conv2d}


def measure(repetitions: int = REPETITIONS, names: tuple[str, ...] = NETWORKS) -> Table:
    """Images per second of a training step of networks on 32 × 32 pixels, on the CPU.

    The last two stages of torchvision's have maps of 2 × 2 and 1 × 1 pixels there, the one before them of 4 × 4; those
    of the others are 4 or 8 wide in the end.
    """
    machine = Choices(device="cpu").resolve(mult_adds=10**9)
    machine.activate()
    ways = {
        f"{name}, {way}": partial(_rate, _student(name, kind), machine) for name in names for way, kind in WAYS.items()
    }
    title = (
        f"A training step by how convolutions of small maps are taken: {BATCH_SIZE} images of 3 × 32 × 32, cpu, "
        f"{machine.precision}, threads: {machine.threads}"
    )
    return Table(title, "images/s", in_turn(ways, repetitions))


def _student(name: str, kind: type[pixels.Conv2d] | None) -> nn.Module:
    torch.manual_seed(0)
    network = build(Network(name, 10)).to(memory_format=torch.channels_last)
    if kind is not None:
        pixels.quicken(network, kind)
    return network.train()


def _rate(network: nn.Module, machine: Machine) -> float:
    """Images per second of the way there and back, without an optimizer."""
    images = torch.randn(BATCH_SIZE, 3, 32, 32).to(memory_format=torch.channels_last)
    started = time.perf_counter()
    for _ in range(STEPS):
        with machine.autocast():
            logits = network(images)
        network.zero_grad()
        logits.float().square().mean().backward()
    return STEPS * BATCH_SIZE / (time.perf_counter() - started)
