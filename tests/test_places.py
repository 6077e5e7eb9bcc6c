import pytest
import torch
from torch import nn

from potstill.errors import UserError
from potstill.models import Network, aliases, build
from potstill.places import FrozenLinear, classifier, module_at, norm_before


@pytest.mark.parametrize(
    ("name", "tap", "want"),
    [
        ("resnet8", "stage1.pre", "layer1.0.bn2"),
        ("resnet8", "stage2.pre", "layer2.0.bn2"),  # Not the shortcut's.
        ("resnet8", "stem.pre", "bn1"),
        ("resnet50", "stage3.pre", "layer3.5.bn3"),
        ("wrn_16_1", "stage1.pre", "block2.0.bn1"),
        ("vgg8", "stage1.pre", "block1.1"),
        ("torchvision:resnet18", "stage2.pre", "layer2.1.bn2"),
        ("torchvision:resnet50", "stage2.pre", "layer2.3.bn3"),
        ("torchvision:resnet18", "stem.pre", "bn1"),
        ("torchvision:vgg11_bn", "stage1.pre", "features.5"),
        ("timm:resnet18", "stage4.pre", "layer4.1.bn2"),
    ],
)
def test_the_norm_before_a_relu_is_found(name, tap, want):
    network = build(Network(name, 10))
    norm = network.get_submodule(want)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm_before(network, tap, norm.num_features) is norm
    with pytest.raises(UserError, match=rf"^No batch norm of 7 channels stands before the teacher's '{tap}'; tap the"):
        norm_before(network, tap, 7)


def test_the_output_of_a_layer_has_no_norm_before_it():
    network = build(Network("resnet8", 10))
    with pytest.raises(UserError, match=r"^No batch norm of 16 channels stands before the teacher's 'stage1'; tap"):
        norm_before(network, "stage1", 16)


@pytest.mark.parametrize("name", ["resnet8", "torchvision:resnet18", "torchvision:mobilenet_v2", "timm:resnet18"])
def test_the_classifier_is_the_layer_behind_logits(name):
    network = build(Network(name, 10))
    found = classifier(network, "teacher")
    assert found is network.get_submodule(aliases(network)["logits"])
    assert found.out_features == 10


def test_a_foreign_network_must_end_in_its_classifier():
    last = nn.Linear(4, 3)
    assert classifier(nn.Sequential(nn.Flatten(), last), "student") is last
    with pytest.raises(UserError, match=r"^The student, a Sequential, does not end in a linear classifier; give a"):
        classifier(nn.Sequential(last, nn.ReLU()), "student")


def test_modules_are_found_by_tap_and_alias():
    network = build(Network("resnet8", 10))
    assert module_at(network, "stage1.pre") is network.get_submodule("layer1.0.relu")
    assert module_at(network, "layer1.0.relu:in#2") is network.get_submodule("layer1.0.relu")
    with pytest.raises(UserError, match=r"^Chain has no module 'layer9'; give the path of one\.$"):
        module_at(network, "layer9")


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_copy_answers_alike_and_is_in_no_state(bias):
    linear = nn.Linear(4, 3, bias=bias)
    copy = FrozenLinear(linear)
    x = torch.randn(2, 4, requires_grad=True)
    torch.testing.assert_close(copy(x), linear(x))
    copy(x).sum().backward()
    assert x.grad is not None
    assert not copy.state_dict()
    assert not list(copy.parameters())
