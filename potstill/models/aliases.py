"""Short names for taps, the same in every family: `stem`, `stage1`, …, `pooled`, `logits`.

A stage is what stands at one resolution, and its alias names the stage's output, after its last ReLU where one ends
it (`stage1.pre` is what that ReLU reads). `pooled` is the vector that the classifier reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from potstill.models.parts import Chain, by_path, quarters


def aliases(module: nn.Module) -> dict[str, str]:
    """Alias to tap path for the family that a network belongs to; empty for an unknown one.

    Paths are those of `named_modules()`; "path:in" is the module's input, "path#2" its second call.
    """
    if isinstance(module, Chain):
        return dict(module.aliases)
    packages = {kind.__module__.partition(".")[0] for kind in type(module).__mro__}
    if "torchvision" in packages:
        # Only here, where torchvision has been imported already.
        from potstill.models.torchvision_aliases import torchvision_aliases

        found = torchvision_aliases(module)
    elif "timm" in packages:
        found = _timm(module)
    else:
        return {}
    # Networks are changed by their owners: only what is still there is named.
    paths = by_path(module)
    return {alias: tap for alias, tap in found.items() if tap.partition("#")[0].removesuffix(":in") in paths}


def _timm(module: nn.Module) -> dict[str, str]:
    """From timm's own description of a network: the taps of its feature pyramid, and the name of its classifier."""
    described = vars(module)
    info: Sequence[Mapping[str, Any]] = list(described.get("feature_info", ()))
    taps = [(str(level["module"]), int(level["reduction"])) for level in info if level.get("module")]
    found: dict[str, str] = {}
    if taps and taps[0][1] <= 2:
        found["stem"] = taps[0][0]
        taps = taps[1:]
    paths = [path for path, _ in taps]
    if len({reduction for _, reduction in taps}) == 1:
        paths = quarters(paths)
    found |= {f"stage{place}": path for place, path in enumerate(paths, start=1)}
    found |= _timm_sums(module, paths)
    configuration = cast("Mapping[str, Any]", described.get("default_cfg") or {})
    classifier = configuration.get("classifier")
    # Some networks have two classifiers, or one that is a convolution over maps.
    if isinstance(classifier, str) and isinstance(by_path(module).get(classifier), nn.Linear):
        found |= {"pooled": f"{classifier}:in", "logits": classifier}
    return found


def _timm_sums(module: nn.Module, stages: Sequence[str]) -> dict[str, str]:
    """What the last activation of each stage of a timm ResNet reads."""
    found: dict[str, str] = {}
    paths = by_path(module)
    for place, stage in enumerate(stages, start=1):
        if stage == f"layer{place}" and isinstance(blocks := paths.get(stage), nn.Sequential):
            last = f"{stage}.{len(blocks) - 1}"
            act = "act3" if f"{last}.act3" in paths else "act2"
            found[f"stage{place}.pre"] = f"{last}.{act}:in"
    return found
