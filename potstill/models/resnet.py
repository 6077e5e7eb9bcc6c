"""Residual networks for small images: He et al., Deep Residual Learning for Image Recognition (CVPR 2016, 1512.03385).

The thin ones have 6n+2 layers in three stages (section 4.2 there, with 1×1 convolutions as shortcuts where the
published distillation tables have them); the wide ones are the ImageNet networks under a 3×3 stem without pooling.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from potstill.models.parts import HEAD, Chain, convolution, head, initialise_convolutions


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; `relu` follows the sum."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H / stride, W / stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(h)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut; `relu` follows the sum."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 · width, H / stride, W / stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))
        h = self.relu2(self.bn2(self.conv2(h)))
        return self.relu(self.bn3(self.conv3(h)) + self.downsample(x))


def resnet8(classes: int, channels: int = 3) -> Chain:
    """ResNet-8."""
    return _thin(8, classes, channels)


def resnet14(classes: int, channels: int = 3) -> Chain:
    """ResNet-14."""
    return _thin(14, classes, channels)


def resnet20(classes: int, channels: int = 3) -> Chain:
    """ResNet-20."""
    return _thin(20, classes, channels)


def resnet32(classes: int, channels: int = 3) -> Chain:
    """ResNet-32."""
    return _thin(32, classes, channels)


def resnet44(classes: int, channels: int = 3) -> Chain:
    """ResNet-44."""
    return _thin(44, classes, channels)


def resnet56(classes: int, channels: int = 3) -> Chain:
    """ResNet-56."""
    return _thin(56, classes, channels)


def resnet110(classes: int, channels: int = 3) -> Chain:
    """ResNet-110."""
    return _thin(110, classes, channels)


def resnet8x4(classes: int, channels: int = 3) -> Chain:
    """ResNet-8, four times as wide (its stem twice)."""
    return _thin(8, classes, channels, widths=(32, 64, 128, 256))


def resnet32x4(classes: int, channels: int = 3) -> Chain:
    """ResNet-32, four times as wide (its stem twice)."""
    return _thin(32, classes, channels, widths=(32, 64, 128, 256))


def resnet18(classes: int, channels: int = 3) -> Chain:
    """ResNet-18 of ImageNet under a 3×3 stem."""
    return _resnet(BasicBlock, (2, 2, 2, 2), (64, 64, 128, 256, 512), classes, channels)


def resnet34(classes: int, channels: int = 3) -> Chain:
    """ResNet-34 of ImageNet under a 3×3 stem."""
    return _resnet(BasicBlock, (3, 4, 6, 3), (64, 64, 128, 256, 512), classes, channels)


def resnet50(classes: int, channels: int = 3) -> Chain:
    """ResNet-50 of ImageNet under a 3×3 stem: the "ResNet50" of the published tables."""
    return _resnet(Bottleneck, (3, 4, 6, 3), (64, 64, 128, 256, 512), classes, channels)


def _thin(depth: int, classes: int, channels: int, widths: Sequence[int] = (16, 16, 32, 64)) -> Chain:
    """6n+2 layers in three stages."""
    return _resnet(BasicBlock, [(depth - 2) // 6] * 3, widths, classes, channels)


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    widths: Sequence[int],
    classes: int,
    channels: int,
) -> Chain:
    """A stem of `widths[0]` channels and `len(depths)` stages; each after the first halves the map."""
    stem, *stages = widths
    parts: dict[str, nn.Module] = {
        "conv1": convolution(channels, stem, 3),
        "bn1": nn.BatchNorm2d(stem),
        "relu": nn.ReLU(),
    }
    aliases = {"stem": "relu", "stem.pre": "relu:in"}
    inputs = stem
    for place, (depth, width) in enumerate(zip(depths, stages, strict=True), start=1):
        outputs = block.expansion * width
        first = block(inputs, width, stride=1 if place == 1 else 2)
        parts[f"layer{place}"] = nn.Sequential(first, *(block(outputs, width, stride=1) for _ in range(depth - 1)))
        aliases[f"stage{place}"] = f"layer{place}"
        aliases[f"stage{place}.pre"] = f"layer{place}.{depth - 1}.relu:in"
        inputs = outputs
    network = Chain(parts | head(inputs, classes), aliases | HEAD)
    initialise_convolutions(network)
    return network


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """The identity, as an empty sequence, or a 1×1 projection where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
