"""What a network consists of, layer by layer, as plain data for tables."""

import copy
from math import prod
from typing import Any

import torch
import torchinfo
from torch import nn
from torchinfo.layer_info import LayerInfo

from potstill.errors import UserError
from potstill.models.parts import by_path


def summarize(module: nn.Module, input_shape: tuple[int, int, int], name: str) -> dict[str, Any]:
    """Layers, parameters and mult-adds for one image.

    The network is copied to the CPU and run once in eval mode on zeros; neither it nor the random state changes.
    Mult-adds are those of layers with weights, biases among them, as torchinfo counts: the products inside an
    attention are not seen.

    Args:
        module: The network.
        input_shape: (C, H, W).
        name: What the table calls it.

    Returns:
        Plain JSON: "name", "parameters", "trainable_parameters", "mult_adds", and "layers", a list with "layer" (the
        path), "kind", "output_shape" (of one image, with the batch dimension of 1), "parameters", "mult_adds".

    Raises:
        UserError: The network cannot read such an image.
    """
    copied = copy.deepcopy(module).cpu().eval()
    paths = {id(part): path for path, part in by_path(copied).items()}
    layers = [_layer(info, paths[info.layer_id]) for info in _infos(copied, input_shape, name) if _is_layer(info)]
    parameters = list(copied.parameters())
    return {
        "name": name,
        "parameters": sum(each.numel() for each in parameters),
        "trainable_parameters": sum(each.numel() for each in parameters if each.requires_grad),
        "mult_adds": sum(layer["mult_adds"] for layer in layers),
        "layers": layers,
    }


def _infos(copied: nn.Module, input_shape: tuple[int, int, int], name: str) -> list[LayerInfo]:
    """One pass over zeros, seen by torchinfo."""
    parameter = next(copied.parameters(), None)
    image = torch.zeros(1, *input_shape, dtype=None if parameter is None else parameter.dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            return torchinfo.summary(
                copied, input_data=image, device="cpu", mode="eval", depth=99, verbose=0
            ).summary_list
    except RuntimeError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(f"{name} cannot read images of shape {tuple(input_shape)} (C, H, W): {reason}") from error


def _is_layer(info: LayerInfo) -> bool:
    """Whether a module does something itself; an empty sequence, as in an identity shortcut, does not."""
    return info.is_leaf_layer and info.executed and not isinstance(info.module, nn.Sequential)


def _layer(info: LayerInfo, path: str) -> dict[str, Any]:
    """One row; a layer that is called again has its parameters in the first row only."""
    mult_adds = info.macs
    if isinstance(info.module, nn.Linear):
        # torchinfo leaves out that a linear layer over tokens runs once per token.
        mult_adds = info.num_params * prod(info.output_size[:-1])
    return {
        "layer": path,
        "kind": info.class_name,
        "output_shape": list(info.output_size),
        "parameters": 0 if info.is_recursive else info.num_params,
        "mult_adds": mult_adds,
    }
