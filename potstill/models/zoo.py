"""The own zoo: names and what they construct."""

from collections.abc import Callable
from types import MappingProxyType

from potstill.models import digits, mobilenet, plain, resnet, shufflenet, vgg, wide_resnet
from potstill.models.parts import Chain

# Every constructor takes `classes`, `channels` and its own options, in the order in which tables show them.
ZOO = MappingProxyType[str, Callable[..., Chain]](
    {
        "mnist_mlp": digits.mnist_mlp,
        "mnist_conv": digits.mnist_conv,
        "digits_mlp": digits.digits_mlp,
        "digits_conv": digits.digits_conv,
        "plain_conv": plain.plain_conv,
        "resnet8": resnet.resnet8,
        "resnet14": resnet.resnet14,
        "resnet20": resnet.resnet20,
        "resnet32": resnet.resnet32,
        "resnet44": resnet.resnet44,
        "resnet56": resnet.resnet56,
        "resnet110": resnet.resnet110,
        "resnet8x4": resnet.resnet8x4,
        "resnet32x4": resnet.resnet32x4,
        "resnet18": resnet.resnet18,
        "resnet34": resnet.resnet34,
        "resnet50": resnet.resnet50,
        "wrn_16_1": wide_resnet.wrn_16_1,
        "wrn_16_2": wide_resnet.wrn_16_2,
        "wrn_40_1": wide_resnet.wrn_40_1,
        "wrn_40_2": wide_resnet.wrn_40_2,
        "vgg8": vgg.vgg8,
        "vgg11": vgg.vgg11,
        "vgg13": vgg.vgg13,
        "vgg16": vgg.vgg16,
        "vgg19": vgg.vgg19,
        "mobilenet_v2": mobilenet.mobilenet_v2,
        "shufflenet_v1": shufflenet.shufflenet_v1,
        "shufflenet_v2": shufflenet.shufflenet_v2,
    }
)


def names() -> tuple[str, ...]:
    """The names of the own zoo, family by family."""
    return tuple(ZOO)
