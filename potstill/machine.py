"""What a training runs on: device, precision, threads, compilation; every `auto` is a fixed rule, never a timing.

| choice    | rule for `auto`                                                                                     |
|-----------|-----------------------------------------------------------------------------------------------------|
| device    | CUDA where there is one, else Apple's MPS, else the CPU                                             |
| precision | bf16 where the hardware multiplies it (CPU with AMX or AVX512-BF16, CUDA from Ampere on) and the    |
|           | student has at least 5 M mult-adds an image; else fp32                                              |
| threads   | 1 where the student has less than 1 M mult-adds an image; else PyTorch's own choice, divided among  |
|           | the processes where there are several devices                                                       |
| compile   | where there is a C++ compiler, and not with `--deterministic`: on CUDA; on a CPU with AMX in bf16   |
|           | where the student sees at least 2 M images in all of its training; not on MPS                       |
| fold      | yes: a teacher's batch norms go into the convolutions before them (see `potstill.folding`), unless  |
|           | the run says `fold=False`                                                                           |
| devices   | 1, or as many as train the run already where it was begun; see `potstill.ranks`                     |

The rules look at a run alone, so a student trained in a cohort gets the same kernels as one trained by itself. They
are applied once, when the run is created; `env.json` keeps the outcome and a continued run takes it from there.
"""

import ctypes
import os
import platform
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from potstill import narrow, pixels
from potstill.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
Switch = Literal["auto", "on", "off"]

BIG_ENOUGH_FOR_BF16 = 5_000_000
BIG_ENOUGH_FOR_THREADS = 1_000_000
LONG_ENOUGH_TO_COMPILE = 2_000_000

DEFAULT_THREADS = torch.get_num_threads()
"""PyTorch's own choice, read before any run sets another."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Every choice made, as `env.json` keeps it."""

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1
    compile: bool = False
    deterministic: bool = False
    devices: int = 1
    fold: bool = False

    def activate(self) -> None:
        """Set what PyTorch keeps for the whole process."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        torch.use_deterministic_algorithms(self.deterministic and self.device == "cuda")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = self.deterministic
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def seed(self, value: int) -> None:
        """Seed the generators that a step draws from.

        `torch.manual_seed` also queues a call for every device kind that was not used yet, with the text of the stack:
        half a millisecond, which is more than a small network's step.
        """
        torch.default_generator.manual_seed(value)
        if self.device == "cuda":
            torch.cuda.manual_seed(value)
        elif self.device == "mps":
            torch.mps.manual_seed(value)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory layout and with the kernels that are fastest there."""
        network.to(self.device)
        if self.device == "cpu":
            pixels.quicken(network, narrow.Conv2d if self.precision == "bf16" and has_amx() else pixels.Conv2d)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return network

    def autocast(self) -> AbstractContextManager[object]:
        """The region of one forward pass: weights cast inside it are cast once, so it must not span a step."""
        return self.autocast_on(self.device)

    def autocast_on(self, device: str) -> AbstractContextManager[object]:
        """The same with the tensors of another device."""
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user asks of the machine; nothing here is part of a run's identity.

    Attributes:
        device: "auto", "cpu", "cuda" or "mps"; refused where it is not there.
        threads: CPU threads of a process; None applies the rule.
        compile: Whether networks are compiled.
        devices: Processes that share a cohort's batches, each on a device of its own; None applies the rule.
    """

    device: str = "auto"
    threads: int | None = None
    compile: Switch = "auto"
    devices: int | None = None

    @property
    def made(self) -> frozenset[str]:
        """What of a `Machine` follows from them and from no rule, beside the device."""
        made = {
            "threads": self.threads or self.devices,  # Among which threads are divided.
            "compile": None if self.compile == "auto" else self.compile,
            "devices": self.devices,
        }
        return frozenset(name for name, choice in made.items() if choice is not None)

    def __post_init__(self) -> None:
        if self.devices is not None and self.devices < 1:
            raise UserError(f"--devices is {self.devices}; expected a whole number ≥ 1.")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads is {self.threads}; expected a whole number ≥ 1.")
        devices_of(_device(self.device), self.devices or 1)

    def resolve(
        self,
        mult_adds: int,
        precision: Precision = "auto",
        deterministic: bool = False,
        fold: bool = True,
        images: int = 0,
    ) -> Machine:
        """Apply the rules above.

        Args:
            mult_adds: Of the student, per image.
            precision: What the run asks for.
            deterministic: Whether only deterministic kernels may run.
            fold: Whether batch norms of teachers may be folded.
            images: How many the student sees in all of its training.

        Raises:
            UserError: the device is not there.
        """
        device = _device(self.device)
        if precision == "auto":
            precision = "bf16" if mult_adds >= BIG_ENOUGH_FOR_BF16 and multiplies_bf16(device) else "fp32"
        devices = self.devices or 1
        few = 1 if mult_adds < BIG_ENOUGH_FOR_THREADS else max(DEFAULT_THREADS // devices, 1)
        tiled = device == "cpu" and precision == "bf16" and has_amx()
        pays = device == "cuda" or (tiled and images >= LONG_ENOUGH_TO_COMPILE)
        automatic = pays and not deterministic and has_compiler()
        return Machine(
            device=device,
            precision=precision,
            threads=few if self.threads is None else self.threads,
            compile=automatic if self.compile == "auto" else self.compile == "on",
            deterministic=deterministic,
            devices=devices,
            fold=fold,
        )


def keep_freed_memory() -> bool:
    """Let this process keep the memory of tensors that are gone for those to come; whether its C library was told so.

    glibc gives every large block back to the system at once and gets it anew, page by page, for the next tensor: a
    third of the time of a pass of 500 images. What the user set by glibc's own variables stays.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    adjust = ctypes.CDLL(None).mallopt
    return bool(adjust(_TRIM_THRESHOLD, 2**31 - 1)) and bool(adjust(_MMAP_THRESHOLD, 2**30))


# Of `mallopt`, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def _device(name: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(name):
        found = ", ".join(kind for kind, here in there.items() if here)
        raise UserError(f"--device is {name!r}, which is not here; this machine has: {found}.")
    return name


def devices_of(kind: str, count: int) -> int:
    """So many devices of a kind; processes on the CPU are as many as one likes.

    Raises:
        UserError: there are fewer.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, count)
    if count > there:
        raise UserError(
            f"--devices is {count}, but there {'is' if there == 1 else 'are'} {there} of {kind} here; ask for no more."
        )
    return count


def multiplies_bf16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16, rather than imitating it."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return device == "cpu" and bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})


def has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 by tiles."""
    return "amx_bf16" in cpu_flags()


def has_compiler() -> bool:
    """Whether there is what `torch.compile` builds its kernels with: the C++ compiler that it looks for first."""
    return shutil.which(os.environ.get("CXX", "clang++" if platform.system() == "Darwin" else "g++")) is not None


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's feature flags that matter here, where the system tells them."""
    flags = _cpuinfo("flags").split()
    return frozenset(flag for flag in flags if flag in {"amx_bf16", "avx512_bf16", "avx512f", "avx2"})


@cache
def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def describe(machine: Machine) -> dict[str, Any]:
    """The hardware and software behind a record, as `env.json` keeps it beside the choices."""
    import numpy

    from potstill import __version__

    cuda = machine.device == "cuda"
    return {
        **asdict(machine),
        "device_name": torch.cuda.get_device_name() if cuda else _cpuinfo("model name") or platform.processor(),
        "cpu": {"name": _cpuinfo("model name") or platform.machine(), "flags": sorted(cpu_flags())},
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "potstill": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            **({"cuda": torch.version.cuda} if cuda else {}),
        },
    }


LATER = {"devices": 1, "fold": False}
"""What holds where a record is from before there was a choice."""


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What on this machine is unlike the one that began a run, and so may change the last bits of what follows."""
    keys = ("device", "device_name", "precision", "threads", "compile", "deterministic", "devices", "fold", "versions")
    before = {**LATER, **before}
    return [f"{key}: {before.get(key)} → {now[key]}" for key in keys if before.get(key) != now[key]]
