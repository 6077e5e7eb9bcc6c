"""VGG for small images: Simonyan and Zisserman, Very Deep Convolutional Networks (ICLR 2015, 1409.1556).

With batch normalisation, and one linear layer behind a global average in place of the paper's three.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from potstill.models.parts import HEAD, Chain, head, initialise_classifier, initialise_convolutions


class PoolLarge(nn.Module):
    """Halves a map that is larger than 4×4; on 32×32 images the last two blocks share a resolution of 4×4."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape or (N, C, H / 2, W / 2)."""
        return self.pool(x) if x.shape[-1] > 4 else x


def vgg8(classes: int, channels: int = 3) -> Chain:
    """VGG-8: one convolution per block."""
    return _vgg((1, 1, 1, 1, 1), classes, channels)


def vgg11(classes: int, channels: int = 3) -> Chain:
    """VGG-11 (configuration A)."""
    return _vgg((1, 1, 2, 2, 2), classes, channels)


def vgg13(classes: int, channels: int = 3) -> Chain:
    """VGG-13 (configuration B)."""
    return _vgg((2, 2, 2, 2, 2), classes, channels)


def vgg16(classes: int, channels: int = 3) -> Chain:
    """VGG-16 (configuration D)."""
    return _vgg((2, 2, 3, 3, 3), classes, channels)


def vgg19(classes: int, channels: int = 3) -> Chain:
    """VGG-19 (configuration E)."""
    return _vgg((2, 2, 4, 4, 4), classes, channels)


def _vgg(depths: Sequence[int], classes: int, channels: int) -> Chain:
    """Five blocks of convolutions; as in the published tables the first counts as the stem."""
    parts: dict[str, nn.Module] = {}
    aliases: dict[str, str] = {}
    inputs = channels
    for place, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True)):
        parts[f"block{place}"] = _block(inputs, width, depth)
        if place < 4:
            parts[f"pool{place}"] = nn.MaxPool2d(2) if place < 3 else PoolLarge()
        alias = f"stage{place}" if place else "stem"
        aliases |= {alias: f"block{place}", f"{alias}.pre": f"block{place}.{3 * depth - 1}:in"}
        inputs = width
    network = Chain(parts | head(inputs, classes), aliases | HEAD)
    initialise_convolutions(network)
    initialise_classifier(network)
    return network


def _block(inputs: int, width: int, depth: int) -> nn.Sequential:
    """`depth` times conv–BN–ReLU; the convolutions have biases, as in the published tables' networks."""
    layers: list[nn.Module] = []
    for place in range(depth):
        layers.append(nn.Conv2d(width if place else inputs, width, 3, padding=1))
        layers.extend([nn.BatchNorm2d(width), nn.ReLU()])
    return nn.Sequential(*layers)
