"""Modules of a network, found by the taps that name them: a classifier, the batch norm before a ReLU."""

from typing import cast

import torch
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.models import aliases


def module_at(network: nn.Module, tap: str) -> nn.Module:
    """The module behind a tap or alias.

    Raises:
        UserError: there is none.
    """
    path = aliases(network).get(tap, tap).partition("#")[0].removesuffix(":in")
    try:
        return network.get_submodule(path)
    except AttributeError:
        raise UserError(f"{type(network).__name__} has no module {tap!r}; give the path of one.") from None


def classifier(network: nn.Module, who: str) -> nn.Linear:
    """The linear layer that answers a network's logits: the one that its alias "logits" names, or the only last one.

    Args:
        network: The network.
        who: "student" or "teacher", for the refusal.

    Raises:
        UserError: there is none.
    """
    named = aliases(network).get("logits")
    last = network.get_submodule(named) if named else list(network.modules())[-1]
    if not isinstance(last, nn.Linear):
        raise UserError(
            f"The {who}, a {type(network).__name__}, does not end in a linear classifier; give a network that does."
        )
    return last


def norm_before(network: nn.Module, tap: str, channels: int) -> nn.BatchNorm2d:
    """The batch norm whose output is what a ReLU reads, or the last that was added to it.

    Where one ReLU serves several calls, as on torchvision's residual networks, the tap's call counts the batch norms of
    its block; else it is the nearest one registered before the ReLU in the same block.

    Args:
        network: The teacher.
        tap: The input of a ReLU, as in "stage1.pre" or "layer1.2.relu:in".
        channels: How many channels the tap has.

    Raises:
        UserError: there is none of so many channels.
    """
    spelled = aliases(network).get(tap, tap)
    path, _, call = spelled.removesuffix(":in").partition("#")
    path = path.removesuffix(":in")
    module_at(network, spelled)
    parent, _, name = path.rpartition(".")
    children = list(network.get_submodule(parent).named_children())
    norms = [(place, part) for place, (_, part) in enumerate(children) if isinstance(part, nn.BatchNorm2d)]
    end = [child for child, _ in children].index(name) if path else 0
    if call and int(call) > 1:
        found = [part for _, part in norms[int(call) - 1 : int(call)]]
    else:
        found = [part for place, part in norms if place < end][-1:]
    if ":in" not in spelled or not found or found[0].num_features != channels:
        raise UserError(
            f"No batch norm of {channels} channels stands before the teacher's {tap!r}; tap the input of a ReLU behind "
            "one, as 'stage1.pre' is in residual networks, or take another method."
        )
    return found[0]


class FrozenLinear(nn.Module):
    """A copy of a linear layer that is not learned; it is in no checkpoint, as the network that it came from is not."""

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        bias = cast("Tensor | None", linear.bias)
        zeros = torch.zeros(linear.out_features, device=linear.weight.device)
        self.register_buffer("weight", linear.weight.detach().clone(), persistent=False)
        self.register_buffer("bias", zeros if bias is None else bias.detach().clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) to (N, K)."""
        return nn.functional.linear(x, self.weight, self.bias)
