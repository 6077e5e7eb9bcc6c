"""A plain convolutional network for 32×32 images, from thin to wide."""

from itertools import pairwise

from torch import nn

from potstill.errors import UserError
from potstill.models.parts import HEAD, Chain, convolution, head, initialise_convolutions


def plain_conv(classes: int, channels: int = 3, width: int = 32, middle: int = 0) -> Chain:
    """A strided stem and three stages of two conv–BN–ReLU each, at 16×16, 8×8 and 4×4 of a 32×32 image.

    With 10 classes: 298,026 parameters at width 32, 1.34 M at width 77 with 64 channels in the middle.

    Args:
        classes: Number of logits.
        channels: Number of image channels.
        width: Channels of the stem and the first stage; each later stage has twice its forerunner's.
        middle: Channels at the end of the second stage, where these shall be others; 0 leaves them.

    Raises:
        UserError: the width is less than 1, or the middle less than 0.
    """
    if width < 1 or middle < 0:
        raise UserError(f"plain_conv was given width {width} and middle {middle}; expected ≥ 1 and ≥ 0.")
    parts: dict[str, nn.Module] = {"stem": _layers((channels, width), stride=2)}
    aliases = {"stem": "stem", "stem.pre": "stem.2:in"}
    inputs = width
    for place, wide in enumerate((width, 2 * width, 4 * width), start=1):
        if place > 1:
            parts[f"pool{place - 1}"] = nn.MaxPool2d(2)
        outputs = middle if place == 2 and middle else wide
        parts[f"stage{place}"] = _layers((inputs, wide, outputs))
        aliases |= {f"stage{place}": f"stage{place}", f"stage{place}.pre": f"stage{place}.5:in"}
        inputs = outputs
    network = Chain(parts | head(inputs, classes), aliases | HEAD)
    initialise_convolutions(network)
    return network


def _layers(widths: tuple[int, ...], stride: int = 1) -> nn.Sequential:
    """A 3×3 convolution, batch norm and ReLU from each width to the next."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts)
