"""MobileNetV2: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (CVPR 2018, 1801.04381).

For small images, as in the published distillation tables: the third row of the paper's table 2 keeps its resolution
(stride 1), ReLU stands for ReLU6, and there is no dropout. On 32×32 images the last map is 2×2.
"""

from torch import Tensor, nn

from potstill.errors import UserError
from potstill.models.parts import HEAD, Chain, convolution, head, initialise_classifier, initialise_convolutions

# Per row: expansion (None: the option's), output channels at width 1, blocks, stride of the first.
_ROWS = (
    (1, 16, 1, 1),
    (None, 24, 2, 1),
    (None, 32, 3, 2),
    (None, 64, 4, 2),
    (None, 96, 3, 1),
    (None, 160, 3, 2),
    (None, 320, 1, 1),
)

# The last row at each resolution. Bottlenecks are linear: no ReLU follows them, so there is no ".pre".
_ALIASES = {
    "stem": "conv1",
    "stem.pre": "conv1.2:in",
    "stage1": "blocks.1",
    "stage2": "blocks.2",
    "stage3": "blocks.4",
    "stage4": "blocks.6",
}


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter each channel by 3×3, narrow by 1×1; the identity is added where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        self.conv = nn.Sequential(
            convolution(inputs, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            convolution(inner, inner, 3, stride, groups=inner),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            convolution(inner, outputs, 1),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet_v2(classes: int, channels: int = 3, width: float = 0.5, expansion: int = 6) -> Chain:
    """MobileNetV2; by default the "half" of the published tables.

    Args:
        classes: Number of logits.
        channels: Number of image channels.
        width: Multiplies the channels of every layer but, up to 1, those of the last.
        expansion: How many times wider a bottleneck is inside.
    """
    if width < 1 / 16 or expansion < 1:
        raise UserError(
            f"mobilenet_v2 was given width {width:g} and expansion {expansion}; expected at least 1/16 and 1."
        )
    inputs, last = int(32 * width), int(1280 * max(width, 1.0))
    stem = nn.Sequential(convolution(channels, inputs, 3, 2), nn.BatchNorm2d(inputs), nn.ReLU())
    rows: list[nn.Module] = []
    for times, full, depth, stride in _ROWS:
        outputs = int(full * width)
        first = InvertedResidual(inputs, outputs, stride, times or expansion)
        others = (InvertedResidual(outputs, outputs, 1, times or expansion) for _ in range(depth - 1))
        rows.append(nn.Sequential(first, *others))
        inputs = outputs
    top = nn.Sequential(convolution(inputs, last, 1), nn.BatchNorm2d(last), nn.ReLU())
    parts: dict[str, nn.Module] = {"conv1": stem, "blocks": nn.Sequential(*rows), "conv2": top}
    network = Chain(parts | head(last, classes), _ALIASES | HEAD)
    initialise_convolutions(network)
    initialise_classifier(network)
    return network
