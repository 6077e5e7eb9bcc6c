"""Taps under `torch.compile`: the eager values every time, and nothing compiled twice.

Most of these compile with backends that need no C++ compiler (they trace, and for `aot_eager` differentiate, as the
default backend does); the public door with the default backend stands at the end.
"""

import copy
import weakref
from collections.abc import Iterator

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch._functorch import config as partition

from potstill.errors import UserError
from potstill.taps import Tracer, _compiled, trace
from potstill.types import Trace

TAPS_A = ["first.relu:in#2", "second"]
TAPS_B = ["second.relu:in#1", "first"]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.bn(self.conv(x))) + x)


class Small(nn.Module):
    def __init__(self, width: int = 3, broken: bool = False) -> None:
        super().__init__()
        self.first = Block(width)
        self.second = Block(width)
        self.head = nn.Linear(width, 5)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.broken:
            torch._dynamo.graph_break()
        return self.head(self.second(x).mean((2, 3)))


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    # `_compiled` must itself put these right, so each test starts from torch's own defaults.
    with (
        torch._dynamo.config.patch(
            skip_nnmodule_hook_guards=True, recompile_limit=8, accumulated_recompile_limit=256, suppress_errors=False
        ),
        partition.patch(aggressive_recomputation=False),
    ):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()


def images(count: int = 4, width: int = 3) -> Tensor:
    return torch.randn(count, width, 8, 8, generator=torch.Generator().manual_seed(0))


def gradients(net: nn.Module, told: Trace) -> list[Tensor]:
    loss = told.logits.square().sum() + sum(value.square().sum() for value in told.taps.values())
    return list(torch.autograd.grad(loss, list(net.parameters())))


def assert_eager(tracer: Tracer, net: nn.Module, x: Tensor, taps: list[str], training: bool = True) -> None:
    """The compiled pass gives what an eager pass of a copy gives: values, gradients, and BN's counters."""
    twin = copy.deepcopy(net.train(training))
    with torch.set_grad_enabled(training):
        wanted, got = trace(twin)(x, taps), tracer(x, taps)
    assert list(got.taps) == taps
    torch.testing.assert_close(got, wanted)
    if training:
        torch.testing.assert_close(gradients(net, got), gradients(twin, wanted), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dict(net.named_buffers()), dict(twin.named_buffers()))


# Torch looks at its own inputs' `.grad` where a graph ends.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(
    "broken", [pytest.param(False, id="one graph", marks=pytest.mark.slow), pytest.param(True, id="graph break")]
)
def test_passes_of_every_kind_in_turn_give_eager_values_and_compile_once_each(broken: bool):
    torch.manual_seed(1)
    net, counter = Small(broken=broken), CompileCounterWithBackend("aot_eager")
    tracer = Tracer(net, {}, _compiled(counter))
    last = 0
    for lap in range(2):
        for taps, training, count in [
            ([], True, 4),
            (TAPS_A, True, 4),
            (TAPS_B, True, 4),
            ([], False, 4),
            (TAPS_A, True, 4),
            (TAPS_A, True, 3),
            (TAPS_A, True, 2),
            (["second.relu:in#2", "first"], True, 4),
            (["first.relu:in#1", "second"], True, 4),
        ]:
            assert_eager(tracer, net, images(count), taps, training)
        if lap == 0:
            last = counter.frame_count
    assert counter.frame_count == last
    if not broken:
        assert last == 8


@pytest.mark.slow
def test_more_arms_than_dynamos_limit_stay_compiled():
    counter = CompileCounterWithBackend("eager")
    run = _compiled(counter)
    nets = [Small(width) for width in range(2, 14)]
    for _ in range(2):
        for net, width in zip(nets, range(2, 14), strict=True):
            assert_eager(Tracer(net, {}, run), net, images(width=width), TAPS_A)
    assert counter.frame_count == len(nets)


def test_arms_of_one_shape_share_what_was_compiled():
    counter = CompileCounterWithBackend("eager")
    for seed in range(12):
        torch.manual_seed(seed)
        net = Small()
        assert_eager(Tracer(net, {}, _compiled(counter)), net, images(), TAPS_A)
    assert counter.frame_count == 1


def test_a_compiled_pass_keeps_no_tensor_and_no_hook():
    net = Small()
    tracer = Tracer(net, {}, _compiled("eager"))
    tracer(images(), TAPS_A)
    told = tracer(images(), TAPS_A)
    caught = [weakref.ref(value) for value in told.taps.values()]
    del told
    assert [value() for value in caught] == [None, None]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert copy.deepcopy(tracer)(images(), TAPS_A).logits.shape == (4, 5)


@pytest.mark.parametrize(
    ("tap", "words"),
    [
        ("first.relu", "tap 'first.relu' fired 2 times in one pass"),
        ("first.relu:in#3", "tap 'first.relu:in#3' never fired: the last call of its module in this pass"),
        ("spare", "tap 'spare' never fired: its module was not called in this pass"),
        ("first.bn", "tap 'first.bn' was overwritten in place later in the same pass"),
    ],
)
def test_a_compiled_pass_refuses_the_lies_an_eager_one_does(tap: str, words: str):
    net = Small()
    net.add_module("spare", nn.Identity())
    tracer = Tracer(net, {}, _compiled("aot_eager"))
    tracer(images())
    for _ in range(2):
        with pytest.raises(UserError) as told:
            tracer(images(), [*TAPS_A, tap])
        assert str(told.value).startswith(words)


def test_what_cannot_be_compiled_runs_as_it_is():
    def fails(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> None:
        raise RuntimeError("no kernel for it")

    net = Small()
    assert_eager(Tracer(net, {}, _compiled(fails)), net, images(), TAPS_A)


@pytest.mark.slow
def test_torchvision_and_timm_networks_compile_with_taps():
    torch.manual_seed(1)
    resnet = torchvision.models.resnet18(num_classes=10)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=16, depth=2, num_classes=10)
    run = _compiled("aot_eager")
    x = torch.randn(2, 3, 32, 32)
    for net, taps in [(resnet, ["layer1.0.relu:in#2", "layer4"]), (vit, ["blocks.0", "blocks.1.attn:in"])]:
        tracer = Tracer(net.eval(), {}, run)
        with torch.no_grad():
            tracer(x)
            torch.testing.assert_close(tracer(x, taps), trace(net)(x, taps))


def kept_for_the_backward_pass(net: nn.Module, taps: list[str]) -> list[torch.dtype]:
    kept: list[torch.dtype] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value.dtype)
        return value

    tracer = Tracer(net, {}, _compiled("aot_eager_decomp_partition"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        tracer(images(), taps)
    return kept


def test_a_tap_writes_no_mask_for_the_backward_pass():
    # On a CPU such a mask, of one byte for each value of a map, costs as much as the rest of a network.
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    assert kept_for_the_backward_pass(net, [])
    assert torch.bool not in kept_for_the_backward_pass(net, ["2"])


def test_the_public_door_compiles():
    # Views alone: the default backend takes part, but has no kernel to build.
    net = nn.Sequential(nn.Flatten(2), nn.Flatten())
    before = counters["stats"]["unique_graphs"]
    tracer = trace(net, compile=True)
    assert torch.equal(tracer(images()).logits, images().flatten(1))
    for _ in range(2):
        torch.testing.assert_close(tracer(images(), ["0"]), trace(net)(images(), ["0"]))
    assert counters["stats"]["unique_graphs"] - before == 2


@pytest.mark.slow
def test_the_default_backend_trains_as_eager_does():
    torch.manual_seed(1)
    net = Small()
    tracer = trace(net, compile=True)
    for taps, training, count in [
        ([], True, 4),
        (TAPS_A, True, 4),
        (TAPS_B, True, 3),
        ([], False, 4),
        (TAPS_A, True, 4),
    ]:
        assert_eager(tracer, net, images(count), taps, training)
