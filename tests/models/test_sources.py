import sys

import pytest
import torch

from potstill.errors import UserError
from potstill.models import Network, aliases, build

from .catching import catch, shapes

MINE = """
from torch import nn

def by_classes(classes, hidden=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, hidden), nn.Linear(hidden, classes))

def by_num_classes(num_classes):
    return nn.Linear(4, num_classes)

def by_anything(**options):
    return nn.Linear(4, options["classes"] + options.get("more", 0))

def fixed(width):
    return nn.Linear(width, 7)

def number():
    return 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_sources.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine_of_sources"
    sys.modules.pop("mine_of_sources", None)


def refused(network):
    with pytest.raises(UserError) as caught:
        build(network)
    return str(caught.value)


@pytest.mark.parametrize(
    ("callable_", "options", "outputs"),
    [
        ("by_classes", {"hidden": 5}, 6),
        ("by_num_classes", {}, 6),
        ("by_anything", {"more": 2}, 8),
        ("fixed", {"width": 4}, 7),
    ],
)
def test_importable(mine, callable_, options, outputs):
    module = build(Network(f"{mine}:{callable_}", 6, options=options))
    assert module(torch.zeros(2, 4)).shape == (2, outputs)
    assert aliases(module) == {}


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("mine_of_sources:by_clases", {}, "no callable 'by_clases'; did you mean 'by_classes' or 'by_num_classes'?"),
        ("mine_of_sources:by_classes", {"hiddn": 2}, "by_classes has no option 'hiddn'; did you mean 'hidden'?"),
        ("mine_of_sources:by_classes", {"classes": 2}, "Option 'classes' of mine_of_sources:by_classes follows from"),
        ("mine_of_sources:number", {}, "mine_of_sources:number answered int; expected a torch.nn.Module."),
        ("no_such_package.nets:net", {}, "there is no module 'no_such_package' to import."),
        ("my nets:net", {}, "expected a name of the own zoo, 'torchvision:NAME', 'timm:NAME' or 'package.module:call"),
        ("hf:google/vit", {}, "'hf:' names cannot be built yet; use 'timm:', 'torchvision:' or Network.given."),
    ],
)
def test_importable_mistakes(mine, name, options, sentence):
    assert sentence in refused(Network(name, 6, options=options))


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (
            Network("resnet21", 10),
            "There is no network 'resnet21'; did you mean 'resnet32' or 'resnet20' or 'resnet18'? "
            "Other sources are written 'torchvision:NAME', 'timm:NAME' or 'package.module:callable'.",
        ),
        (
            Network("mobilenet_v2", 10, options={"widthh": 1.0}),
            "mobilenet_v2 has no option 'widthh'; did you mean 'width'?",
        ),
        (Network("vgg8", 10, options={"dropout": 0.5}), "vgg8 has no option 'dropout'; it has none."),
        (
            Network("mnist_mlp", 10, 1, {"hidden": "16"}),
            "Option 'hidden' of mnist_mlp was given '16'; expected int.",
        ),
        (
            Network("mnist_mlp", 10, 1, {"hidden": True}),
            "Option 'hidden' of mnist_mlp was given True; expected int.",
        ),
    ],
)
def test_zoo_mistakes(network, sentence):
    assert refused(network) == sentence


def test_a_whole_number_is_a_number():
    assert build(Network("shufflenet_v2", 10, options={"width": 2})).get_parameter("fc.weight").shape == (10, 2048)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet", "inception_v3"])
def test_torchvision_answers_logits_alone(name):
    torch.manual_seed(0)
    module = build(Network(f"torchvision:{name}", 7)).train()
    size = 75 if name == "inception_v3" else 64
    assert module(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_torchvision_takes_options():
    module = build(Network("torchvision:mobilenet_v2", 7, options={"width_mult": 0.25}))
    assert sum(weight.numel() for weight in module.parameters()) < 400_000


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Network("torchvision:resnet81", 7), "torchvision has no classification network 'resnet81'; did you mean"),
        (
            Network("torchvision:resnet18", 7, 1),
            "torchvision:resnet18 reads 3 channels and was given 1: repeat the channel in the data, "
            "or use 'timm:resnet18' or a network of the own zoo.",
        ),
        (
            Network("torchvision:resnet18", 7, options={"zero_init_residuals": True}),
            "torchvision:resnet18 has no option 'zero_init_residuals'; did you mean 'zero_init_residual'?",
        ),
        (
            Network("torchvision:resnet18", 7, options={"num_classes": 3}),
            "Option 'num_classes' of torchvision:resnet18 follows from the data: leave it out.",
        ),
        (
            Network("torchvision:resnet18", 7, options={"groups": 2}),
            "torchvision:resnet18 refuses its options {'groups': 2}: BasicBlock only supports groups=1",
        ),
        (Network("timm:resnet81", 7), "timm has no network 'resnet81'; did you mean"),
        (
            Network("timm:resnet18", 7, options={"drop_rat": 0.1}),
            "timm:resnet18 has no option 'drop_rat'; did you mean 'drop_rate'",
        ),
    ],
)
def test_library_mistakes(network, sentence):
    assert refused(network).startswith(sentence)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refused(Network("timm:resnet18", 7)) == (
        "timm:resnet18 needs timm, which is not installed: pip install potstill[timm]"
    )


def test_timm_reads_any_number_of_channels():
    torch.manual_seed(0)
    module = build(Network("timm:resnet18", 7, 1))
    assert module(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", ["torchvision:shufflenet_v2_x0_5", "timm:resnet10t", "timm:vit_tiny_patch16_224"])
def test_weights_follow_the_global_seed(name):
    def drawn(seed):
        torch.manual_seed(seed)
        return torch.cat([weight.detach().flatten() for weight in build(Network(name, 7)).parameters()])

    first = drawn(3)
    assert torch.equal(first, drawn(3))
    assert not torch.equal(first, drawn(4))


def maps(channels, sizes):
    shapes = [(c, s, s) for c, s in zip(channels, sizes, strict=True)]
    return {f"stage{place}" if place else "stem": shape for place, shape in enumerate(shapes)}


TOKENS = {f"stage{place}": (17, 192) for place in range(1, 5)}
FOREIGN = {
    "torchvision:resnet18": maps((64, 64, 128, 256, 512), (32, 16, 8, 4, 2)) | {"pooled": (512,)},
    "torchvision:resnet50": maps((64, 256, 512, 1024, 2048), (32, 16, 8, 4, 2)) | {"pooled": (2048,)},
    "torchvision:vgg11_bn": maps((64, 128, 256, 512, 512), (64, 32, 16, 8, 4)) | {"pooled": (4096,)},
    "torchvision:mobilenet_v2": maps((32, 24, 32, 96, 320), (32, 16, 8, 4, 2)) | {"pooled": (1280,)},
    "torchvision:mobilenet_v3_small": maps((16, 16, 24, 48, 96), (32, 16, 8, 4, 2)) | {"pooled": (1024,)},
    "torchvision:efficientnet_b0": maps((32, 24, 40, 112, 320), (32, 16, 8, 4, 2)) | {"pooled": (1280,)},
    "torchvision:shufflenet_v2_x0_5": maps((24, 48, 96, 192), (32, 8, 4, 2)) | {"pooled": (1024,)},
    "torchvision:densenet121": maps((64, 256, 512, 1024, 1024), (32, 16, 8, 4, 2)) | {"pooled": (1024,)},
    "torchvision:regnet_y_400mf": maps((32, 48, 104, 208, 440), (32, 32 // 2, 8, 4, 2)) | {"pooled": (440,)},
    "timm:resnet18": maps((64, 64, 128, 256, 512), (32, 16, 8, 4, 2)) | {"pooled": (512,)},
    "timm:resnet26": maps((64, 256, 512, 1024, 2048), (32, 16, 8, 4, 2)) | {"pooled": (2048,)},
    "timm:efficientnet_b0": maps((16, 24, 40, 112, 320), (32, 16, 8, 4, 2)) | {"pooled": (1280,)},
    "timm:vit_tiny_patch16_224": TOKENS | {"pooled": (192,)},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_aliases_of_libraries(name):
    torch.manual_seed(0)
    options: dict[str, bool | int | float | str]
    options = {"img_size": 64} if "vit" in name else {"init_weights": False} if "vgg" in name else {}
    module = build(Network(name, 7, options=options)).eval()
    found, images = aliases(module), torch.randn(2, 3, 64, 64)
    expected = FOREIGN[name] | {"logits": (7,)}
    shaped = shapes(module, found, images)
    assert {alias: shape for alias, shape in shaped.items() if "." not in alias} == expected
    caught = catch(module, set(found.values()), images)
    sums = [alias for alias in found if alias.endswith(".pre")]
    for alias in sums:
        torch.testing.assert_close(caught[found[alias.removesuffix(".pre")]], caught[found[alias]].relu())
    assert bool(sums) == ("resnet" in name or "vgg" in name)


def test_aliases_name_only_what_is_there():
    module = build(Network("torchvision:resnet18", 7))
    module.layer4 = torch.nn.Sequential()
    module.fc = torch.nn.Identity()
    found = aliases(module)
    assert {"stage3", "stage3.pre", "stage4"} < set(found)
    assert not {"stage4.pre", "pooled", "logits"} & set(found)


def test_aliases_of_two_classifiers_are_not_guessed():
    module = build(Network("timm:deit_tiny_distilled_patch16_224", 7))
    assert set(aliases(module)) == {"stage1", "stage2", "stage3", "stage4"}
