"""Weights and checkpoints on disk: safetensors with JSON in the header, checksummed, replaced as a whole."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from potstill.errors import UserError
from potstill.record import write_bytes

Values = dict[str, Any]

_HEADER = "potstill"


def write(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> None:
    """Replace a file of tensors as a whole.

    Args:
        path: The file.
        tensors: By name; copied to the CPU, in the ordinary memory layout.
        values: Plain values that travel with them in the header.
    """
    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    text = json.dumps(values or {}, allow_nan=False)
    # One entry, because safetensors writes several in an order that changes from file to file.
    write_bytes(path, save(copies, {_HEADER: f"{_checksum(copies, text)} {text}"}))


def read(path: Path) -> tuple[dict[str, Tensor], Values] | None:
    """The tensors and values in a file; None where there is none, or what is there is not whole."""
    if not path.exists():
        return None
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None
    checksum, _, text = header.get(_HEADER, "").partition(" ")
    return (tensors, json.loads(text)) if checksum == _checksum(tensors, text) else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file that must be there and whole.

    Raises:
        UserError: they are not.
    """
    loaded = read(path)
    if loaded is None:
        raise UserError(f"{path} is missing or damaged; delete {path.parent} to train that run again.")
    return loaded[0]


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
