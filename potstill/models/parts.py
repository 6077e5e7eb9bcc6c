"""What the families of the zoo are made of."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn


class Chain(nn.Sequential):
    """A network of the zoo: named parts, run one after another.

    Attributes:
        aliases: Short names of its taps: alias to tap path (see `potstill.taps`).
    """

    aliases: dict[str, str]

    def __init__(self, parts: Mapping[str, nn.Module], aliases: Mapping[str, str] | None = None):
        super().__init__(OrderedDict(parts))
        self.aliases = dict(aliases or {})


class ChannelShuffle(nn.Module):
    """Deals the channels of `groups` groups out in turn: (N, g·c, H, W) read as (g, c) becomes (c, g)."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        N, C, H, W = x.shape
        return x.reshape(N, self.groups, C // self.groups, H, W).transpose(1, 2).reshape(N, C, H, W)

    def extra_repr(self) -> str:
        """The number of groups."""
        return f"groups={self.groups}"


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution before a batch normalisation: padded to keep the size, and without a bias."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)


def head(features: int, classes: int) -> dict[str, nn.Module]:
    """The end of every family: global average, then one linear layer."""
    return {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(features, classes)}


# What `head` is called in taps. The pooled features are the vector that the classifier reads, (N, D).
HEAD = {"pooled": "fc:in", "logits": "fc"}


def by_path(module: nn.Module) -> dict[str, nn.Module]:
    """`named_modules()` as a dictionary."""
    return dict(cast("Iterable[tuple[str, nn.Module]]", module.named_modules()))


def initialise_convolutions(network: nn.Module) -> None:
    """He's normal initialisation by fan-out (arXiv:1502.01852), with biases at zero, for every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_classifier(network: nn.Module) -> None:
    """Small normal weights (deviation .01) and zero biases for every linear layer."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def quarters(paths: Sequence[str]) -> list[str]:
    """The blocks that end each quarter of a network with a single resolution; all of them where they are few."""
    return [paths[len(paths) * part // 4 - 1] for part in range(1, 5)] if len(paths) >= 4 else list(paths)
