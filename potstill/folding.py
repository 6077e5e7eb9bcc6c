"""Batch norms that the convolution before them has taken in: a frozen network walks over its maps once less for each.

In evaluation mode a batch norm is a factor and a shift per channel, which go into the weights and the bias of a
convolution that nothing else reads. The modules stay where they were: the output of either is what the batch norm gave.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves  # pyright: ignore[reportUnknownVariableType]

from potstill import pixels


class BatchNorm2d(nn.BatchNorm2d):
    """A batch norm that a convolution has taken in: its parameters are there to be looked at."""

    def forward(self, input: Tensor) -> Tensor:
        """What it is given."""
        return input


Pairs = list[tuple[nn.Conv2d, nn.BatchNorm2d]]


def fold(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Let every convolution of a frozen network take in the batch norm that alone reads what it gives.

    Args:
        network: It is left in evaluation mode.
        shape: (C, H, W) of an image.

    Returns:
        How many did; none where it cannot read such an image, which a dry run will say.
    """
    pairs = _pairs(network.eval(), shape)
    for convolution, norm in pairs:
        _join(convolution, norm)
    return len(pairs)


@torch.no_grad()
def _join(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Put the factor and the shift of each channel into the convolution, computed in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.double()
    before = 0 if convolution.bias is None else convolution.bias.double()
    bias = (before - norm.running_mean.double()) * factor + (norm.bias.double() if norm.affine else 0)
    convolution.weight.copy_(convolution.weight.double() * factor.view(-1, 1, 1, 1))
    if convolution.bias is None:
        # A buffer: the network has as many parameters as before.
        del convolution.bias
        convolution.register_buffer("bias", bias.to(convolution.weight.dtype))
    else:
        convolution.bias.copy_(bias)
    norm.__class__ = BatchNorm2d


def _pairs(network: nn.Module, shape: tuple[int, int, int]) -> Pairs:
    """Convolutions and the batch norms that alone read what they give, by a pass over two zero images."""
    shared = _shared(network)
    convolutions = [m for m in network.modules() if type(m) in (nn.Conv2d, pixels.Conv2d) and m not in shared]
    norms = [m for m in network.modules() if type(m) is nn.BatchNorm2d and m.running_mean is not None]
    calls: Counter[nn.Module] = Counter()
    given: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # The tensor too, so that no other one gets its identity.
    found: dict[int, nn.BatchNorm2d] = {}
    uses = _Uses()

    def gives(module: nn.Module, _: Any, output: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        calls[module] += 1
        given[id(output)] = module, output
        uses.counts[id(output)] = 0

    def reads(module: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        calls[module] += 1
        if args and id(args[0]) in given:
            found[id(args[0])] = module

    handles = [m.register_forward_hook(gives) for m in convolutions]
    handles += [m.register_forward_pre_hook(reads) for m in norms]
    parameter = next(network.parameters(), None)
    zeros = torch.zeros(2, *shape, device=None if parameter is None else parameter.device)
    try:
        with torch.no_grad(), uses:
            network(zeros)
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return []
    finally:
        for handle in handles:
            handle.remove()
    pairs = [(given[key][0], norm) for key, norm in found.items() if uses.counts[key] == 1]
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _shared(network: nn.Module) -> set[nn.Module]:
    """Modules whose parameters others have too."""
    owners: dict[int, set[nn.Module]] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(module)
    return {module for several in owners.values() if len(several) > 1 for module in several}


class _Uses(TorchDispatchMode):
    """Counts the operations that read a tensor, by the tensor's `id`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.counts.update(id(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor))
        return func(*args, **(kwargs or {}))
