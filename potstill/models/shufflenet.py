"""ShuffleNets for small images, under a 1×1 stem of stride 1 as in the published distillation tables.

Version 1: Zhang et al., ShuffleNet: An Extremely Efficient CNN for Mobile Devices (CVPR 2018, 1707.01083).
Version 2: Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (ECCV 2018, 1807.11164).
Both keep PyTorch's default initialisation.
"""

import torch
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.models.parts import HEAD, Chain, ChannelShuffle, convolution, head

_STEM = 24
_DEPTHS = (4, 8, 4)

# Channels of the three stages and of the last convolution (table 5 of version 2).
_V2_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


class GroupedBlock(nn.Module):
    """Version 1: grouped 1×1, shuffle, 3×3 per channel, grouped 1×1; a ReLU follows the sum.

    The block that halves the map joins its shortcut by concatenation in place of the sum. Unlike the paper's, the
    3×3 convolution has a ReLU, as in the published tables' network.
    """

    def __init__(self, inputs: int, outputs: int, groups: int, halves: bool):
        super().__init__()
        made = outputs - inputs if halves else outputs
        inner = made // 4
        before = 1 if inputs == _STEM else groups  # The stem is too thin for groups.
        self.conv1 = convolution(inputs, inner, 1, groups=before)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.shuffle = ChannelShuffle(before)
        self.conv2 = convolution(inner, inner, 3, stride=2 if halves else 1, groups=inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = convolution(inner, made, 1, groups=groups)
        self.bn3 = nn.BatchNorm2d(made)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if halves else None
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W), or half that size."""
        h = self.shuffle(self.relu1(self.bn1(self.conv1(x))))
        h = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(h)))))
        return self.relu3(h + x if self.shortcut is None else torch.cat([h, self.shortcut(x)], dim=1))


class SplitBlock(nn.Module):
    """Version 2 at one resolution: half of the channels pass, the other half goes through three convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = _branch(width // 2, width // 2, stride=1)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        kept, changed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([kept, self.branch(changed)], dim=1))


class HalvingBlock(nn.Module):
    """Version 2 between resolutions: two branches read everything and answer half of the channels each."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(
            convolution(inputs, inputs, 3, stride=2, groups=inputs),
            nn.BatchNorm2d(inputs),
            convolution(inputs, half, 1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )
        self.right = _branch(inputs, half, stride=2)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        return self.shuffle(torch.cat([self.left(x), self.right(x)], dim=1))


def shufflenet_v1(classes: int, channels: int = 3) -> Chain:
    """ShuffleNet with three groups and 240, 480 and 960 channels (column "g = 3" of the paper's table 1)."""
    parts = _stem(channels)
    aliases = {"stem": "relu", "stem.pre": "relu:in"}
    inputs = _STEM
    for place, (depth, width) in enumerate(zip(_DEPTHS, (240, 480, 960), strict=True), start=1):
        first = GroupedBlock(inputs, width, groups=3, halves=True)
        others = (GroupedBlock(width, width, groups=3, halves=False) for _ in range(depth - 1))
        parts[f"layer{place}"] = nn.Sequential(first, *others)
        aliases[f"stage{place}"] = f"layer{place}"
        aliases[f"stage{place}.pre"] = f"layer{place}.{depth - 1}.relu3:in"
        inputs = width
    return Chain(parts | head(inputs, classes), aliases | HEAD)


def shufflenet_v2(classes: int, channels: int = 3, width: float = 1.0) -> Chain:
    """ShuffleNetV2.

    Args:
        classes: Number of logits.
        channels: Number of image channels.
        width: .5, 1, 1.5 or 2, as in the paper's table 5.
    """
    if width not in _V2_CHANNELS:
        sizes = ", ".join(f"{known:g}" for known in _V2_CHANNELS)
        raise UserError(f"shufflenet_v2 was given width {width:g}; expected one of {sizes}.")
    *widths, last = _V2_CHANNELS[width]
    parts = _stem(channels)
    # The ReLU before the shuffle sees one half of the channels only, so there is no ".pre" of a whole stage.
    aliases = {"stem": "relu", "stem.pre": "relu:in"}
    inputs = _STEM
    for place, (depth, outputs) in enumerate(zip(_DEPTHS, widths, strict=True), start=1):
        others = (SplitBlock(outputs) for _ in range(depth - 1))
        parts[f"layer{place}"] = nn.Sequential(HalvingBlock(inputs, outputs), *others)
        aliases[f"stage{place}"] = f"layer{place}"
        inputs = outputs
    parts |= {"conv2": convolution(inputs, last, 1), "bn2": nn.BatchNorm2d(last), "relu2": nn.ReLU()}
    return Chain(parts | head(last, classes), aliases | HEAD)


def _stem(channels: int) -> dict[str, nn.Module]:
    return {"conv1": convolution(channels, _STEM, 1), "bn1": nn.BatchNorm2d(_STEM), "relu": nn.ReLU()}


def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1×1, 3×3 per channel, 1×1; no ReLU after the middle one."""
    return nn.Sequential(
        convolution(inputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        convolution(outputs, outputs, 3, stride, groups=outputs),
        nn.BatchNorm2d(outputs),
        convolution(outputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
