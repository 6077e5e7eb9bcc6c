"""Taps on unlike networks, and every lie a tap could tell."""

import copy
import pickle
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.taps import match, trace


class Block(nn.Module):
    """A residual block in torchvision's manner: one in-place ReLU serves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.spare = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.bn(self.conv(x))) + x)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean((2, 3)))


class Attending(nn.Module):
    """Attention gives a tuple, and never calls its own `out_proj`."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.scale = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(input=self.attention(x, x, x)[0]).mean(1)


def images(size: int = 8) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet() -> torchvision.models.ResNet:
    torch.manual_seed(1)
    return torchvision.models.resnet18(num_classes=10).eval()


def test_without_taps_the_trace_is_the_networks_answer():
    net = Small().eval()
    told = trace(net)(images())
    assert torch.equal(told.logits, net(images()))
    assert told.taps == {}


def test_pre_relu_sum_of_a_torchvision_resnet_with_its_gradient(resnet: torchvision.models.ResNet):
    x = images(32)
    told = trace(resnet)(x, ["layer1.0.relu:in#2"]).taps["layer1.0.relu:in#2"]
    block: Any = resnet.get_submodule("layer1.0")
    stem = resnet.maxpool(F.relu(resnet.bn1(resnet.conv1(x))))
    by_hand = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(stem))))) + stem
    torch.testing.assert_close(told, by_hand)
    assert bool((told < 0).any())
    weights = [resnet.conv1.weight, block.conv2.weight]
    got = torch.autograd.grad(told.square().sum(), weights)
    wanted = torch.autograd.grad(by_hand.square().sum(), weights)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)
    assert all(bool(gradient.any()) for gradient in got)


def test_the_output_of_a_block_is_the_relu_of_its_sum(resnet: torchvision.models.ResNet):
    taps = trace(resnet)(images(32), ["layer1.0.relu:in#2", "layer1.0.relu#2", "layer1.0"]).taps
    assert torch.equal(taps["layer1.0"], taps["layer1.0.relu:in#2"].relu())
    assert torch.equal(taps["layer1.0"], taps["layer1.0.relu#2"])


def test_taps_on_a_timm_transformer():
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10).eval()
    told = trace(net)(images(32), ["blocks.0", "blocks.1.attn:in", "fc_norm", "head"])
    assert torch.equal(told.taps["blocks.1.attn:in"], net.get_submodule("blocks.1.norm1")(told.taps["blocks.0"]))
    assert torch.equal(told.taps["head"], told.logits)


def test_taps_on_a_mobilenet():
    net = torchvision.models.mobilenet_v2(num_classes=10).eval()
    told = trace(net)(images(32), ["features.18", "classifier:in"])
    assert torch.equal(told.taps["features.18"].mean((2, 3)), told.taps["classifier:in"])


def test_aliases_stand_for_any_tap_and_name_the_answer():
    net = Small().eval()
    aliases = {"sum": "block.relu:in#2", "stage": "block", "logits": "", "pixels": ":in"}
    told = trace(net, aliases=aliases)(images(), ["sum", "stage", "logits", "pixels", "block"])
    assert list(told.taps) == ["sum", "stage", "logits", "pixels", "block"]
    assert torch.equal(told.taps["logits"], told.logits)
    assert torch.equal(told.taps["pixels"], images())
    assert torch.equal(told.taps["stage"], told.taps["sum"].relu())


def test_an_input_is_taken_before_the_module_overwrites_it():
    net = Small().eval()
    told = trace(net)(images(), ["block.relu:in#1"]).taps["block.relu:in#1"]
    assert torch.equal(told, net.block.bn(net.block.conv(images())))


def test_one_module_under_two_paths_answers_by_both():
    net = Small().eval()
    net.block.add_module("again", net.block.conv)
    told = trace(net)(images(), ["block.conv:in", "block.again:in"])
    assert torch.equal(told.taps["block.conv:in"], told.taps["block.again:in"])


GRAMMAR = (
    " is no tap: write the path of a module, then ':in' for its input and '#2' for its second call, "
    "as in 'layer1.0.relu:in#2'."
)


@pytest.mark.parametrize(
    ("tap", "sentence"),
    [
        (
            "block.rleu:in#2",
            "tap 'block.rleu:in#2', but Small has no module 'block.rleu': "
            "did you mean 'block.relu' or 'block.spare' or 'block.bn'?",
        ),
        ("stge", "tap 'stge', but Small has no module 'stge': did you mean 'stage'?"),
        (
            "gone",
            "alias 'gone' stands for tap 'trunk', but Small has no module 'trunk': there are 'stage', 'twice', "
            "'block', 'block.conv', 'block.bn', 'block.relu', 'block.spare', 'head'.",
        ),
        (
            "",
            "tap '', but Small has no module '': there are 'stage', 'gone', 'twice', "
            "'block', 'block.conv', 'block.bn', 'block.relu', 'block.spare', ….",
        ),
        ("block:out", "'block:out'" + GRAMMAR),
        ("block#0", "'block#0'" + GRAMMAR),
    ],
)
def test_a_tap_that_names_no_module_is_refused_before_the_pass(tap: str, sentence: str):
    tracer = trace(Small(), aliases={"stage": "block", "gone": "trunk", "twice": "block.relu"})
    with pytest.raises(UserError) as told:
        tracer.check(["stage", tap])
    assert str(told.value) == sentence
    with pytest.raises(UserError) as told:
        tracer(images(), ["stage", tap])
    assert str(told.value) == sentence


OVERWRITTEN = (
    " was overwritten in place later in the same pass (by an activation with inplace=True, or by +=): "
    "tap the input of the module that does it with ':in', or another module."
)


@pytest.mark.parametrize(
    ("tap", "sentence"),
    [
        (
            "block.spare",
            "tap 'block.spare' never fired: its module was not called in this pass; tap a module that is.",
        ),
        (
            "block.relu",
            "tap 'block.relu' fired 2 times in one pass: say which call is meant, from 'block.relu#1' "
            "to 'block.relu#2'.",
        ),
        (
            "twice",
            "tap 'twice' ('block.relu:in') fired 2 times in one pass: say which call is meant, from 'block.relu:in#1' "
            "to 'block.relu:in#2'.",
        ),
        (
            "block.relu#3",
            "tap 'block.relu#3' never fired: the last call of its module in this pass is 'block.relu#2'.",
        ),
        ("block.bn", "tap 'block.bn'" + OVERWRITTEN),
    ],
)
def test_a_tap_that_would_lie_is_refused(tap: str, sentence: str):
    net = Small()
    with pytest.raises(UserError) as told:
        trace(net, aliases={"twice": "block.relu:in"})(images(), ["block", tap])
    assert str(told.value) == sentence
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("tap", ["layer2.1.bn1", "layer2.1.bn2", "bn1"])
def test_a_normalisation_overwritten_in_a_torchvision_resnet_is_refused(resnet: torchvision.models.ResNet, tap: str):
    with pytest.raises(UserError) as told:
        trace(resnet)(images(32), [tap])
    assert str(told.value) == f"tap {tap!r}" + OVERWRITTEN


@pytest.mark.parametrize(
    ("tap", "sentence"),
    [
        (
            "attention",
            "tap 'attention' caught no tensor: the output of its module is a tuple; tap a module within it or beside "
            "it that has one tensor there.",
        ),
        (
            "scale:in",
            "tap 'scale:in' caught no tensor: the first positional input of its module is a NoneType; tap a module "
            "within it or beside it that has one tensor there.",
        ),
        (
            "attention.out_proj",
            "tap 'attention.out_proj' never fired: its module was not called in this pass; tap a module that is.",
        ),
    ],
)
def test_what_is_no_tensor_is_refused(tap: str, sentence: str):
    with pytest.raises(UserError) as told:
        trace(Attending())(torch.randn(2, 4, 6), [tap])
    assert str(told.value) == sentence


def test_a_network_that_does_not_answer_logits_is_refused():
    with pytest.raises(UserError) as told:
        trace(nn.LSTM(6, 6))(torch.randn(2, 4, 6))
    assert str(told.value) == (
        "LSTM gives a tuple where one tensor of logits (N, K) is expected: "
        "wrap it in a module whose forward returns the logits alone."
    )


def test_taps_under_inference_mode_are_refused():
    with torch.inference_mode(), pytest.raises(UserError) as told:
        trace(Small())(images(), ["block"])
    assert str(told.value) == (
        "taps cannot be checked under torch.inference_mode(): run the pass under torch.no_grad()."
    )


def test_hooks_live_for_one_pass():
    net = Small()
    before = {name: (dict(m._forward_hooks), dict(m._forward_pre_hooks)) for name, m in net.named_modules()}
    trace(net)(images(), ["block", "block.relu:in#2"])
    with pytest.raises(RuntimeError):
        trace(net)(torch.randn(4, 7, 8, 8), ["block", "block.relu:in#2"])
    assert before == {name: (dict(m._forward_hooks), dict(m._forward_pre_hooks)) for name, m in net.named_modules()}
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin.eval()(images()), net.eval()(images()))


def test_a_users_own_hook_stays_and_is_seen_by_the_tap():
    net = Small().eval()
    net.block.register_forward_hook(lambda _, args, output: args[0] + 2)
    told = trace(net)(images(), ["block", "head:in"])
    assert torch.equal(told.taps["block"].mean((2, 3)), told.taps["head:in"])
    assert len(net.block._forward_hooks) == 1


def test_a_tracer_in_a_module_registers_nothing_and_is_copied_with_its_network():
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = Small()
            self.tracer = trace(self.student)

    holder = Holder().eval()
    assert all(name.startswith("student.") for name in holder.state_dict())
    twin = copy.deepcopy(holder)
    with torch.no_grad():
        twin.student.head.bias.add_(1)
    torch.testing.assert_close(twin.tracer(images()).logits, holder.tracer(images()).logits + 1)


def test_match_selects_in_the_order_of_the_names():
    names = ["student.layer1.0.weight", "student.layer2.0.weight", "student.layer1.0.bias", "learned.hint.weight"]
    assert match(names, ("learned.*", "student.layer1*"), "parameters") == [names[0], names[2], names[3]]
    assert match(names, (), "parameters") == []


def test_match_refuses_every_glob_that_selects_nothing():
    names = ["student.layer1.0.weight", "student.layer2.0.weight", "learned.hint.weight"]
    with pytest.raises(UserError) as told:
        match(names, ("student.layr1*", "learned.*", "studnt.layer2.*"), "parameters")
    assert str(told.value) == (
        "no parameters match 'student.layr1*' or 'studnt.layer2.*': did you mean 'student.layer1' or 'student.layer2'?"
    )


def test_a_network_that_writes_into_what_it_is_given_is_refused():
    tracer = trace(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()))
    with pytest.raises(UserError, match=r"^Sequential writes into the images that it is given, which others are shown"):
        tracer(torch.randn(2, 1, 2, 2))
    with torch.inference_mode():  # Where nothing is trained, and nothing counts.
        assert tracer(torch.ones(2, 1, 2, 2)).logits.shape == (2, 4)
