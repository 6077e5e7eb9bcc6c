"""The teacher's store: exact logits on disk, which every later run of that teacher on this kind of machine reads.

    runs/store/<teacher>-<key>/
        about.json          whose answers these are: everything that may change a bit of them
        <split>-<id>.rows   a row for each image in each place of the walk that all runs share (see `store.rows`)
        log.jsonl           what was computed and written, and what was compared with the live teacher

A row holds what came out of the network, in the type in which it did. What is not there is computed, in the very
chunks in which it would be without a store, so that no bit of a run depends on whether there is one.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from potstill import __version__, record
from potstill.codec import digest
from potstill.data import Resident
from potstill.errors import UserError
from potstill.machine import Machine, describe
from potstill.models import identity_of
from potstill.reading import Reading

LIMIT = 10 * 2**30
"""Bytes that all stores in a folder of runs may take together, if nothing else is said."""

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True)
class Storage:
    """Where the stores of a folder of runs are, and what one training may do there.

    Attributes:
        root: The folder of all stores.
        limit: Bytes that they may take together; what is added takes no more than half of the free disk space either.
        content: Identity of the data.
        turns: How many turns of their walks the training images show.
        tell: Shows a sentence.
        reserved: Bytes of each file that this training has begun, when it is complete.
    """

    root: Path
    limit: int
    content: str
    turns: int
    tell: Callable[[str], None]
    reserved: dict[Path, int] = field(default_factory=dict[Path, int])

    def open(
        self, label: str, network: nn.Module, reading: Reading | None, resident: Resident, machine: Machine
    ) -> "Store":
        """The store of one network on one kind of machine."""
        return Store(self, label, _identity(network, reading, resident, self.content, machine))

    def room(self) -> int:
        """Bytes that may be added now, beside what is set aside for files that are not complete."""
        taken = sum(taken_by(path) for path in self.root.rglob("*"))
        due = sum(max(size - taken_by(path), 0) for path, size in self.reserved.items())
        return max(min(self.limit - taken, shutil.disk_usage(self.root).free // 2) - due, 0)


def _identity(
    network: nn.Module, reading: Reading | None, resident: Resident, content: str, machine: Machine
) -> dict[str, Any]:
    """Everything that may change a bit of what a network says; the class map of a reading comes after that."""
    on = describe(machine)
    reading = reading or Reading()
    packages = {type(part).__module__.partition(".")[0] for part in network.modules()} & {"timm", "torchvision"}
    choices = ("device", "device_name", "precision", "threads", "compile", "deterministic")
    return {
        "weights": identity_of(network),
        "data": {"name": resident.name, "content": content},
        "normalisation": [resident.mean.flatten().tolist(), resident.std.flatten().tolist()],
        "reading": [list(reading.mean), list(reading.std), reading.size],
        "machine": {name: on[name] for name in choices},
        "kernels": [torch.backends.cpu.get_cpu_capability(), torch.get_float32_matmul_precision()],
        "versions": {
            **{name: on["versions"].get(name) for name in ("potstill", "torch", "cuda")},
            **{name: version(name) for name in sorted(packages)},
        },
    }


class Store:
    """What one network says on one kind of machine, on disk.

    Attributes:
        storage: What it is one of.
        key: Hash of whose answers these are.
        folder: Where they are.
        usable: Whether they may be read: not where they turned out to be another network's.
        writable: Whether more may be written: not where the disk refused it.
    """

    def __init__(self, storage: Storage, label: str, identity: Mapping[str, Any]):
        self.storage = storage
        self.key = digest(identity)
        self.usable = True
        self.writable = True
        self._told = False
        name = "".join(c if c.isalnum() or c in "._" else "-" for c in label).strip("-") or "teacher"
        self.folder = storage.root / f"{name}-{self.key[: record.SHORT]}"
        self._about = {"format": record.FORMAT, "version": __version__, "key": self.key, "label": label}
        self._about |= {"identity": dict(identity)}

    def make(self) -> None:
        """Make the folder, and say in it whose it is.

        Raises:
            OSError: it cannot be made.
        """
        if not (self.folder / "about.json").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            record.write_json(self.folder / "about.json", self._about)

    def agree(self, split: str, kind: str, compared: int, equal: int, seconds: float) -> None:
        """Take note of what a comparison with the live network gave, and use the store no more where it differs."""
        named = {"kind": kind} if kind else {}
        self.log(split=split, **named, compared=compared, equal=equal, seconds=seconds)
        if equal < compared:
            self.refuse(f"holds other answers than its teacher gives ({compared - equal} of {compared} differ)")
        elif self.usable and not self._told:
            self._told = True
            self.storage.tell(f"store: {equal} of {compared} answers are those of the live teacher ({self.folder})")

    def refuse(self, why: str) -> None:
        """Use it no more, and leave what is there as it is."""
        if self.usable:
            self.usable = self.writable = False
            self.storage.tell(
                f"The store {self.folder} {why}; it is left alone and the teacher answers live: `potstill cache --drop "
                f"{self.key[: record.SHORT]}` removes it."
            )

    def give_up(self, error: OSError) -> None:
        """Write no more."""
        if self.writable:
            self.writable = False
            self.storage.tell(
                f"The store {self.folder} cannot be written any more ({error.strerror}); the training goes on without."
            )

    def log(self, **line: Any) -> None:
        """Append a line; so short a one is written whole, whoever else writes. A log that cannot be kept is not."""
        with suppress(OSError):
            file = os.open(self.folder / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.write(file, (json.dumps(line) + "\n").encode())
            finally:
                os.close(file)


def taken_by(path: Path) -> int:
    """Bytes on disk, holes not counted; 0 where nothing is there."""
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0


def size_of(text: str) -> int:
    """Bytes of a size as the command line has it: "10GiB", "500 MiB", "off" for 0.

    Raises:
        UserError: it is none.
    """
    if text == "off":
        return 0
    for unit, factor in _UNITS.items():
        number = text.removesuffix(unit).strip()
        if text.endswith(unit) and number.replace(".", "", 1).isdecimal():
            return int(float(number) * factor)
    raise UserError(f"--store is {text!r}; expected a size such as 10GiB or 500MiB, or off.")


def told_size(size: int) -> str:
    """Bytes as a person reads them."""
    unit, factor = next(((u, f) for u, f in reversed(_UNITS.items()) if size >= f), ("KiB", 2**10))
    return f"{size / factor:{'.0f' if size >= 100 * factor else '.3g'}} {unit}"
