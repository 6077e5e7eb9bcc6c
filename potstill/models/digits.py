"""Small networks for digits: MNIST (28×28) and scikit-learn's embedded digits (8×8)."""

from torch import nn

from potstill.errors import UserError
from potstill.models.parts import HEAD, Chain, convolution, head, initialise_convolutions


def mnist_conv(classes: int = 10, channels: int = 1) -> Chain:
    """Two 3×3 convolutions, a maximum over 2×2, and two linear layers with dropout: PyTorch's MNIST example.

    1,199,882 parameters for one channel and ten classes. The pooled features are what the last layer reads: in
    training, after dropout.
    """
    return Chain(
        {
            "conv1": nn.Conv2d(channels, 32, 3),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(32, 64, 3),
            "relu2": nn.ReLU(),
            "pool": nn.MaxPool2d(2),
            "dropout1": nn.Dropout(0.25),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(64 * 12 * 12, 128),
            "relu3": nn.ReLU(),
            "dropout2": nn.Dropout(0.5),
            "fc2": nn.Linear(128, classes),
        },
        {
            "stem": "relu1",
            "stem.pre": "relu1:in",
            "stage1": "relu2",
            "stage1.pre": "relu2:in",
            "pooled": "fc2:in",
            "logits": "fc2",
        },
    )


def mnist_mlp(classes: int = 10, channels: int = 1, hidden: int = 16) -> Chain:
    """One hidden layer over 28×28 images; 12,730 parameters with 16 hidden units.

    Args:
        classes: Number of logits.
        channels: Number of image channels.
        hidden: Number of hidden units.
    """
    return _perceptron("mnist_mlp", channels * 28 * 28, hidden, classes)


def digits_mlp(classes: int = 10, channels: int = 1, hidden: int = 32) -> Chain:
    """One hidden layer over 8×8 images.

    Args:
        classes: Number of logits.
        channels: Number of image channels.
        hidden: Number of hidden units.
    """
    return _perceptron("digits_mlp", channels * 8 * 8, hidden, classes)


def digits_conv(classes: int = 10, channels: int = 1, width: int = 16) -> Chain:
    """Three conv–BN–ReLU stages for 8×8 images, at 8×8, 4×4 and 4×4; about 24,000 parameters, 1,700 at width 4.

    Args:
        classes: Number of logits.
        channels: Number of image channels.
        width: Channels of the first stage; each of the others has twice its forerunner's.
    """
    _at_least_one("digits_conv", "width", width)
    parts: dict[str, nn.Module] = {}
    aliases: dict[str, str] = {}
    inputs = channels
    for place, outputs in enumerate((width, 2 * width, 4 * width), start=1):
        if place == 2:
            parts["pool1"] = nn.MaxPool2d(2)
        parts[f"stage{place}"] = nn.Sequential(convolution(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU())
        aliases |= {f"stage{place}": f"stage{place}", f"stage{place}.pre": f"stage{place}.2:in"}
        inputs = outputs
    network = Chain(parts | head(inputs, classes), aliases | HEAD)
    initialise_convolutions(network)
    return network


def _perceptron(name: str, inputs: int, hidden: int, classes: int) -> Chain:
    _at_least_one(name, "hidden", hidden)
    return Chain(
        {
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(inputs, hidden),
            "relu": nn.ReLU(),
            "fc2": nn.Linear(hidden, classes),
        },
        {"stage1": "relu", "stage1.pre": "relu:in", "pooled": "fc2:in", "logits": "fc2"},
    )


def _at_least_one(name: str, option: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} was given {option} {value}; expected 1 or more.")
