"""Short names for taps of torchvision's families."""

from torch import nn
from torchvision.models import (
    VGG,
    ConvNeXt,
    DenseNet,
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
    RegNet,
    ResNet,
    ShuffleNetV2,
    SwinTransformer,
    VisionTransformer,
)
from torchvision.models.resnet import Bottleneck

from potstill.models.parts import by_path, quarters


def torchvision_aliases(module: nn.Module) -> dict[str, str]:
    """Alias to tap path, empty for a family that is not listed here."""
    match module:
        case ResNet():
            found = _resnet(module)
        case VGG():
            found = _vgg(module.features)
        case MobileNetV2() | MobileNetV3() | EfficientNet():
            found = _by_strides(module.features)
        case ShuffleNetV2():
            found = {"stem": "conv1", "stage1": "stage2", "stage2": "stage3", "stage3": "stage4"}
        case DenseNet():
            # Sums of maps, before any ReLU: the one behind the last block has no module.
            found = {"stem": "features.relu0"} | {f"stage{n}": f"features.denseblock{n}" for n in range(1, 5)}
        case RegNet():
            found = {"stem": "stem"} | {f"stage{n}": f"trunk_output.block{n}" for n in range(1, 5)}
        case ConvNeXt() | SwinTransformer():
            # The even places hold what changes the resolution. Swin's maps are (N, H, W, C).
            found = {"stem": "features.0"} | {f"stage{n}": f"features.{2 * n - 1}" for n in range(1, 5)}
        case VisionTransformer():
            blocks = [f"encoder.layers.{name}" for name, _ in module.encoder.layers.named_children()]
            ends = enumerate(quarters(blocks), start=1)
            found = {"stem": "conv_proj"} | {f"stage{n}": path for n, path in ends}
        case _:
            return {}
    path, last = list(by_path(module).items())[-1]
    return found | {"pooled": f"{path}:in", "logits": path} if isinstance(last, nn.Linear) else found


def _resnet(module: ResNet) -> dict[str, str]:
    """One ReLU serves a whole block, so the last call's input is the sum."""
    found = {"stem": "relu", "stem.pre": "relu:in"}
    for place, stage in enumerate((module.layer1, module.layer2, module.layer3, module.layer4), start=1):
        found[f"stage{place}"] = f"layer{place}"
        blocks = list(stage.named_children())
        if blocks:
            last, block = blocks[-1]
            calls = 3 if isinstance(block, Bottleneck) else 2
            found[f"stage{place}.pre"] = f"layer{place}.{last}.relu:in#{calls}"
    return found


def _vgg(features: nn.Module) -> dict[str, str]:
    """The ReLU before each pooling; as in our own VGG the first block counts as the stem."""
    ends = [int(path) - 1 for path, part in features.named_children() if isinstance(part, nn.MaxPool2d)]
    found: dict[str, str] = {}
    for place, end in enumerate(ends):
        alias = f"stage{place}" if place else "stem"
        found |= {alias: f"features.{end}", f"{alias}.pre": f"features.{end}:in"}
    return found


def _by_strides(features: nn.Module) -> dict[str, str]:
    """The last block before each change of resolution, below the stem's, and the last before the top convolution."""
    blocks = list(features.children())
    strided = [place for place, block in enumerate(blocks) if place and _halves(block)]
    ends = [place - 1 for place in strided[1:]] + [len(blocks) - 2]
    found = {"stem": "features.0"}
    return found | {f"stage{n}": f"features.{end}" for n, end in enumerate(ends, start=1)}


def _halves(block: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d) and max(part.stride) > 1 for part in block.modules())
