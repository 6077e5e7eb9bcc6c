"""What it brings to take convolutions of maps of a few pixels as matrix products (`potstill.pixels`)."""

import time
from functools import partial

import torch
from torch import nn

from benchmarks.rounds import in_turn
from benchmarks.table import Table
from potstill.machine import Choices, Machine
from potstill.models import Network, build
from potstill.pixels import quicken

REPETITIONS = 7
BATCH_SIZE = 128
STEPS = 3


def measure(repetitions: int = REPETITIONS, names: tuple[str, ...] = ("resnet18", "resnet34")) -> Table:
    """Images per second of a training step of torchvision's ResNets on 32 × 32 pixels, on the CPU.

    Their last two stages have maps of 2 × 2 and 1 × 1 pixels there.
    """
    machine = Choices(device="cpu").resolve(mult_adds=10**9)
    machine.activate()
    ways = {
        f"{name}, {how}": partial(_rate, _student(name, quick=quick), machine)
        for name in names
        for how, quick in (("convolutions", False), ("products", True))
    }
    title = (
        f"A training step of torchvision's ResNets: {BATCH_SIZE} images of 3 × 32 × 32, cpu, {machine.precision}, "
        f"threads: {machine.threads}"
    )
    return Table(title, "images/s", in_turn(ways, repetitions))


def _student(name: str, *, quick: bool) -> nn.Module:
    torch.manual_seed(0)
    network = build(Network(f"torchvision:{name}", 10)).to(memory_format=torch.channels_last)
    if quick:
        quicken(network)
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
