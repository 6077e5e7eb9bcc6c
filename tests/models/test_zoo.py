import functools
import itertools
import math

import pytest
import torch
from torch import nn

from potstill.errors import UserError
from potstill.models import Network, aliases, build, names

from .catching import catch, shapes

# Parameters with 100 classes and 3 channels; for digits and MNIST, with 10 and 1.
PARAMETERS = {
    "mnist_mlp": 12_730,
    "mnist_conv": 1_199_882,
    "digits_mlp": 2_410,
    "digits_conv": 24_058,
    "plain_conv": 309_636,
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet18": 11_220_132,
    "resnet34": 21_328_292,
    "resnet50": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "mobilenet_v2": 812_836,
    "shufflenet_v1": 949_258,
    "shufflenet_v2": 1_355_528,
}


def maps(channels, sizes):
    return [(c, s, s) for c, s in zip(channels, sizes, strict=True)]


# What stands at `stem`, `stage1`, …, and how long the pooled vector is.
THIN = maps((16, 16, 32, 64), (32, 32, 16, 8)), 64
THIN_X4 = maps((32, 64, 128, 256), (32, 32, 16, 8)), 256
WIDE = maps((64, 64, 128, 256, 512), (32, 32, 16, 8, 4)), 512
DEEP = maps((64, 256, 512, 1024, 2048), (32, 32, 16, 8, 4)), 2048
WRN_2 = maps((16, 32, 64, 128), (32, 32, 16, 8)), 128
VGG = maps((64, 128, 256, 512, 512), (32, 16, 8, 4, 4)), 512
STAGES = {
    **dict.fromkeys(["resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"], THIN),
    **dict.fromkeys(["wrn_16_1", "wrn_40_1"], THIN),
    **dict.fromkeys(["wrn_16_2", "wrn_40_2"], WRN_2),
    **dict.fromkeys(["resnet8x4", "resnet32x4"], THIN_X4),
    **dict.fromkeys(["resnet18", "resnet34"], WIDE),
    "resnet50": DEEP,
    **dict.fromkeys(["vgg8", "vgg11", "vgg13", "vgg16", "vgg19"], VGG),
    "mobilenet_v2": (maps((16, 12, 16, 48, 160), (16, 16, 8, 4, 2)), 1280),
    "shufflenet_v1": (maps((24, 240, 480, 960), (32, 16, 8, 4)), 960),
    "shufflenet_v2": (maps((24, 116, 232, 464), (32, 16, 8, 4)), 1024),
    "mnist_conv": ([(32, 26, 26), (64, 24, 24)], 128),
    "mnist_mlp": ([None, (16,)], 16),
    "digits_mlp": ([None, (32,)], 32),
    "digits_conv": ([None, (16, 8, 8), (32, 4, 4), (64, 4, 4)], 64),
    "plain_conv": (maps((32, 32, 64, 128), (16, 16, 8, 4)), 128),
}


def network(name):
    small = name.startswith(("mnist", "digits"))
    return Network(name, classes=10, channels=1) if small else Network(name, classes=100)


def images(name, count=2):
    size = 28 if name.startswith("mnist") else 8 if name.startswith("digits") else 32
    return torch.randn(count, network(name).channels, size, size, generator=torch.Generator().manual_seed(1))


@functools.cache
def built(name):
    torch.manual_seed(0)
    return build(network(name)).eval()


def test_the_zoo_is_what_the_tables_below_describe():
    assert set(names()) == set(PARAMETERS) == set(STAGES)
    assert len(names()) == len(PARAMETERS)


@pytest.mark.parametrize("name", names())
def test_parameters(name):
    assert sum(parameter.numel() for parameter in built(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Network("mobilenet_v2", 100, options={"width": 1.0}), 2_353_060),
        (Network("shufflenet_v2", 100, options={"width": 1.5}), 2_580_548),
        (Network("digits_conv", 10, 1, {"width": 4}), 1_702),
        (Network("mnist_mlp", 10, 1, {"hidden": 32}), 785 * 32 + 33 * 10),
        (Network("plain_conv", 10), 298_026),
        (Network("plain_conv", 10, options={"width": 77, "middle": 64}), 1_340_631),
    ],
)
def test_options_change_the_size(given, expected):
    assert sum(parameter.numel() for parameter in build(given).parameters()) == expected


def test_the_second_stage_of_a_wide_plain_network_ends_as_narrow_as_it_is_told():
    networks = (Network("plain_conv", 10), Network("plain_conv", 10, options={"width": 77, "middle": 64}))
    found = [shapes(net, aliases(net), images("plain_conv")) for net in map(build, networks)]
    stages = [{alias: shape for alias, shape in told.items() if alias.startswith("st")} for told in found]
    assert stages[0]["stage2"] == stages[1]["stage2"] == stages[1]["stage2.pre"] == (64, 8, 8)
    assert stages[1]["stem"] == stages[1]["stage1"] == (77, 16, 16)
    assert stages[1]["stage3"] == (308, 4, 4)


@pytest.mark.parametrize("name", names())
def test_aliases_name_every_stage(name):
    stages, features = STAGES[name]
    expected = {f"stage{place}" if place else "stem": shape for place, shape in enumerate(stages) if shape}
    expected |= {"pooled": (features,), "logits": (network(name).classes,)}
    found = shapes(built(name), aliases(built(name)), images(name))
    assert {alias: shape for alias, shape in found.items() if "." not in alias} == expected
    for alias, shape in found.items():
        assert shape == expected[alias.partition(".")[0]], alias


@pytest.mark.parametrize("name", names())
def test_aliases_name_what_they_say(name):
    module, found = built(name), aliases(built(name))
    caught = catch(module, set(found.values()), images(name))
    for alias, tap in found.items():
        if alias.endswith(".pre"):
            assert (caught[tap] < 0).any()
            torch.testing.assert_close(caught[found[alias.removesuffix(".pre")]], caught[tap].relu())
    classifier = module.get_submodule(found["logits"])
    assert isinstance(classifier, nn.Linear)
    torch.testing.assert_close(caught[found["logits"]], classifier(caught[found["pooled"]]))
    with torch.no_grad():
        torch.testing.assert_close(caught[found["logits"]], module(images(name)))


@pytest.mark.parametrize("name", ["wrn_16_1", "wrn_40_2"])
def test_the_sum_of_a_pre_activated_stage_is_what_its_normalisation_reads(name):
    module, found = built(name), aliases(built(name))
    caught = catch(module, set(found.values()), images(name))
    norms = {"stem": "block1.0.bn1", "stage1": "block2.0.bn1", "stage2": "block3.0.bn1", "stage3": "bn1"}
    for alias, norm in norms.items():
        expected = module.get_submodule(norm)(caught[found[f"{alias}.sum"]])
        torch.testing.assert_close(caught[found[f"{alias}.pre"]], expected)


@pytest.mark.parametrize("name", names())
def test_every_relu_serves_one_place_and_overwrites_nothing(name):
    module = built(name)
    relus = [path for path, part in module.named_modules() if isinstance(part, nn.ReLU)]
    assert relus
    catch(module, relus, images(name))  # Each fires exactly once.
    assert not any(part.inplace for part in module.modules() if isinstance(part, nn.ReLU))


@pytest.mark.parametrize("name", ["mnist_conv", "digits_conv", "resnet8", "wrn_16_1", "vgg8", "shufflenet_v2"])
def test_weights_follow_the_global_seed(name):
    def drawn(seed):
        torch.manual_seed(seed)
        return torch.cat([weight.detach().flatten() for weight in build(network(name)).parameters()])

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["resnet32x4", "wrn_40_2", "vgg13", "mobilenet_v2"])
def test_convolutions_start_at_he_by_fan_out(name):
    for part in built(name).modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 10_000:
            expected = math.sqrt(2 / (part.out_channels * part.kernel_size[0] ** 2))
            assert part.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert part.bias is None or not part.bias.any()


@pytest.mark.parametrize("name", ["vgg13", "mobilenet_v2"])
def test_these_classifiers_start_small(name):
    assert built(name).get_parameter("fc.weight").std().item() == pytest.approx(0.01, rel=0.05)
    assert not built(name).get_parameter("fc.bias").any()


@pytest.mark.parametrize("name", ["shufflenet_v1", "shufflenet_v2"])
def test_shufflenets_start_at_the_default_of_torch(name):
    for part in built(name).modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 10_000:
            fan_in = part.weight[0].numel()
            assert part.weight.abs().max().item() <= 1 / math.sqrt(fan_in)
            assert part.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)


def test_channels_of_version_one_are_shuffled_across_groups():
    shuffle = built("shufflenet_v1").get_submodule("layer1.1.shuffle")
    numbers = torch.arange(60.0).reshape(1, 60, 1, 1)
    assert shuffle(numbers).flatten()[:6].tolist() == [0, 20, 40, 1, 21, 41]


@pytest.mark.parametrize("size", [32, 64])
def test_vgg_pools_a_fourth_time_only_on_large_images(size):
    module = built("vgg8")
    found = shapes(module, aliases(module), torch.zeros(1, 3, size, size))
    assert found["stage3"] == (512, size // 8, size // 8)
    assert found["stage4"] == (512, 4, 4)


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2"])
def test_memory_format_changes_nothing_and_gradients_reach_all(name):
    torch.manual_seed(0)
    module = build(network(name)).eval()
    expected = module(images(name, 4))
    module.to(memory_format=torch.channels_last)
    found = module(images(name, 4).to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    found.square().sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())


def test_other_channels():
    for name, channels in itertools.product(["resnet8", "wrn_16_1", "vgg8", "mobilenet_v2", "shufflenet_v2"], [1, 4]):
        assert build(Network(name, 5, channels)).eval()(torch.zeros(2, channels, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("digits_conv", {"width": 0}, "digits_conv was given width 0; expected 1 or more."),
        ("mnist_mlp", {"hidden": 0}, "mnist_mlp was given hidden 0; expected 1 or more."),
        ("plain_conv", {"width": 0}, "plain_conv was given width 0 and middle 0; expected ≥ 1 and ≥ 0."),
        ("plain_conv", {"middle": -1}, "plain_conv was given width 32 and middle -1; expected ≥ 1 and ≥ 0."),
        ("shufflenet_v2", {"width": 1.2}, "shufflenet_v2 was given width 1.2; expected one of 0.5, 1, 1.5, 2."),
        (
            "mobilenet_v2",
            {"width": 0.01},
            "mobilenet_v2 was given width 0.01 and expansion 6; expected at least 1/16 and 1.",
        ),
    ],
)
def test_bounds_of_options(name, options, sentence):
    with pytest.raises(UserError) as caught:
        build(Network(name, 10, 1, options))
    assert str(caught.value) == sentence
