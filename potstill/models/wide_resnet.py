"""Wide residual networks: Zagoruyko and Komodakis, Wide Residual Networks (BMVC 2016, 1605.07146).

Blocks are pre-activated (batch normalisation and ReLU come before each convolution), so what leaves a stage is a sum
that no ReLU has seen: the ReLU after stage N stands at the start of stage N+1.
"""

from itertools import pairwise

from torch import Tensor, nn

from potstill.models.parts import HEAD, Chain, convolution, head, initialise_convolutions


class PreActivationBlock(nn.Module):
    """BN–ReLU–conv twice, and a shortcut; a projecting shortcut reads what the first ReLU answers."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv2 = convolution(width, width, 3)
        self.shortcut = None if inputs == width else convolution(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H / stride, W / stride), before any ReLU."""
        h = self.relu1(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(self.relu2(self.bn2(self.conv1(h)))) + kept


def wrn_16_1(classes: int, channels: int = 3) -> Chain:
    """WRN-16-1."""
    return _wide_resnet(16, 1, classes, channels)


def wrn_16_2(classes: int, channels: int = 3) -> Chain:
    """WRN-16-2."""
    return _wide_resnet(16, 2, classes, channels)


def wrn_40_1(classes: int, channels: int = 3) -> Chain:
    """WRN-40-1."""
    return _wide_resnet(40, 1, classes, channels)


def wrn_40_2(classes: int, channels: int = 3) -> Chain:
    """WRN-40-2."""
    return _wide_resnet(40, 2, classes, channels)


# For each stage: the activation that follows it, its input (a batch normalisation's output), and the bare sum, which
# is what the published feature methods compare on these networks.
_ALIASES = {
    "stem": "block1.0.relu1",
    "stem.pre": "block1.0.relu1:in",
    "stem.sum": "conv1",
    "stage1": "block2.0.relu1",
    "stage1.pre": "block2.0.relu1:in",
    "stage1.sum": "block1",
    "stage2": "block3.0.relu1",
    "stage2.pre": "block3.0.relu1:in",
    "stage2.sum": "block2",
    "stage3": "relu",
    "stage3.pre": "relu:in",
    "stage3.sum": "block3",
}


def _wide_resnet(depth: int, factor: int, classes: int, channels: int) -> Chain:
    """6n+4 layers, `factor` times as wide as the thin residual networks."""
    widths = [16, 16 * factor, 32 * factor, 64 * factor]
    parts: dict[str, nn.Module] = {"conv1": convolution(channels, widths[0], 3)}
    for place, (inputs, width) in enumerate(pairwise(widths), start=1):
        first = PreActivationBlock(inputs, width, stride=1 if place == 1 else 2)
        others = (PreActivationBlock(width, width, stride=1) for _ in range((depth - 4) // 6 - 1))
        parts[f"block{place}"] = nn.Sequential(first, *others)
    parts |= {"bn1": nn.BatchNorm2d(widths[-1]), "relu": nn.ReLU()}
    ends = head(widths[-1], classes)
    network = Chain(parts | ends, _ALIASES | HEAD)
    initialise_convolutions(network)
    for module in ends.values():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return network
