import copy
from dataclasses import replace
from pathlib import Path

import pytest
import quick
import torch
from torch import Tensor, nn

from potstill import pixels, record
from potstill.data import load
from potstill.errors import UserError
from potstill.execution import machine_for
from potstill.folding import BatchNorm2d, fold
from potstill.machine import Choices, describe, differences
from potstill.models import Network, ReusedHead, aliases, build, summarize
from potstill.places import norm_before
from potstill.reuse import reuse
from potstill.run import fingerprint, identity
from potstill.taps import trace
from potstill.teachers.teacher import Surroundings, opened
from tests import tiny

SHAPE = (3, 32, 32)
# Of pre-activation networks the batch norms behind a sum stay as they are.
FOLDED = {
    "resnet56": 57,
    "resnet32x4": 34,
    "resnet50": 53,
    "wrn_40_2": 19,
    "vgg13": 10,
    "mobilenet_v2": 53,
    "shufflenet_v2": 56,
    "torchvision:resnet18": 20,
}


def lived_in(name: str) -> nn.Module:
    """A network whose batch norms have seen something, and whose answers keep their size."""
    torch.manual_seed(0)
    network = build(Network(name, 100)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    images = torch.randn(64, *SHAPE).mul_(2).add_(0.3)
    with torch.no_grad():
        for _ in range(2):
            network.train()(images)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.add_(0.3 * torch.randn_like(module.running_mean))
                module.running_var.mul_(torch.empty_like(module.running_var).uniform_(0.5, 2))
    return network.eval().requires_grad_(False)


def answers(network: nn.Module, *, bf16: bool = False, taps: tuple[str, ...] = ()) -> dict[str, Tensor]:
    torch.manual_seed(1)
    images = torch.randn(32, *SHAPE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        told = trace(network, aliases=aliases(network))(images, taps)
    return {"logits": told.logits.float(), **told.taps}


@pytest.mark.parametrize("name", quick.only(["wrn_40_2", "torchvision:resnet18"], FOLDED))
def test_a_folded_network_says_the_same(name: str) -> None:
    network = lived_in(name)
    folded = copy.deepcopy(network)
    assert fold(folded, SHAPE) == FOLDED[name]
    exact = answers(network)["logits"]
    assert (answers(folded)["logits"] - exact).norm() < 1e-5 * exact.norm()
    off = (answers(network, bf16=True)["logits"] - exact).norm()
    assert (answers(folded, bf16=True)["logits"] - exact).norm() < 1.5 * off
    assert summarize(folded, SHAPE, name) == summarize(network, SHAPE, name)


def test_a_tap_on_the_convolution_or_its_norm_reads_what_the_norm_gave() -> None:
    network = lived_in("resnet8x4")
    folded = copy.deepcopy(network)
    fold(folded, SHAPE)
    taps = ("layer1.0.conv1", "layer1.0.bn1", "stage1.pre", "stage3", "pooled")
    want, got = answers(network, taps=taps), answers(folded, taps=taps)
    want["layer1.0.conv1"] = want["layer1.0.bn1"]
    for tap, value in want.items():
        assert (got[tap] - value).norm() < 1e-5 * value.norm(), tap


def test_a_tap_between_them_is_refused() -> None:
    network = lived_in("resnet8x4")
    fold(network, SHAPE)
    with pytest.raises(
        UserError, match="lies between a convolution and the batch norm that was folded into it"
    ) as told:
        answers(network, taps=("layer1.0.bn1:in",))
    assert "fold=False" in str(told.value)


def test_the_margin_of_a_norm_is_what_it_was() -> None:
    network = lived_in("resnet8x4")
    norm = copy.deepcopy(norm_before(network, "stage1.pre", 64))
    fold(network, SHAPE)
    found = norm_before(network, "stage1.pre", 64)
    assert isinstance(found, BatchNorm2d)
    assert torch.equal(found.weight, norm.weight)
    assert torch.equal(found.bias, norm.bias)


class Branching(nn.Module):
    """A convolution that two read, one that is called twice, two that share a weight, and one that may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.called_twice, self.one, self.other, self.free, self.plain = (
            nn.Conv2d(3, 3, 3, padding=1) for _ in range(6)
        )
        self.other.weight = self.one.weight
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(6))
        self.counting = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.read_twice(x)
        x = self.norms[0](a) + a
        x = self.norms[2](self.called_twice(self.norms[1](self.called_twice(x))))
        x = self.norms[4](self.other(self.norms[3](self.one(x))))
        x = self.counting(self.plain(x))
        return self.norms[5](self.free(x)).mean((2, 3))


def test_what_something_else_reads_is_left_alone() -> None:
    torch.manual_seed(0)
    network = Branching().eval()
    for norm in network.norms:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        norm.running_var.uniform_(0.1, 3)
        nn.init.uniform_(norm.bias)
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        want = network(images)
        assert fold(network, (3, 8, 8)) == 1
        assert isinstance(network.norms[5], BatchNorm2d)
        torch.testing.assert_close(network(images), want)


def test_a_network_that_cannot_read_the_images_is_left_for_the_dry_run_to_refuse() -> None:
    network = build(Network("resnet8x4", 10))
    assert fold(network, (1, 32, 32)) == 0


def test_small_maps_are_products_after_folding_too() -> None:
    network = lived_in("torchvision:resnet18")
    exact = answers(network)["logits"]
    fold(network, SHAPE)
    pixels.quicken(network)
    assert (answers(network)["logits"] - exact).norm() < 1e-5 * exact.norm()


def test_a_student_takes_over_the_classifier_of_a_folded_teacher() -> None:
    teacher = lived_in("resnet32x4")
    classifier = teacher.get_submodule("fc").get_parameter("weight").clone()
    fold(teacher, SHAPE)
    shipped = reuse(build(Network("resnet8x4", 100)), teacher, ReusedHead(), SHAPE)
    assert torch.equal(shipped.get_submodule("fc").get_parameter("weight"), classifier)


def test_a_teacher_is_folded_unless_the_run_says_otherwise(tmp_path: Path) -> None:
    plain = tiny.run(teacher=tiny.teacher(build(tiny.convolutional())))
    kept = replace(plain, fold=False)
    assert fingerprint(plain) != fingerprint(kept)
    assert "fold" not in identity(plain)  # Runs from before there was a choice keep their fingerprint.
    for run, folded in ((plain, True), (kept, False)):
        machine = machine_for(run, Choices(device="cpu"), tmp_path)
        source = opened(run.teacher, Surroundings(tmp_path, load(run.data), machine, None))
        assert source is not None
        assert source.network is not None
        assert any(isinstance(module, BatchNorm2d) for module in source.network.modules()) == folded


def test_a_run_from_before_there_was_a_choice_goes_on_without(tmp_path: Path) -> None:
    run = tiny.run(teacher=tiny.teacher(build(tiny.convolutional())))
    folder = record.folder_of(tmp_path, run.name, fingerprint(run))
    folder.mkdir()
    begun = describe(machine_for(run, Choices(), tmp_path))
    del begun["fold"]
    record.write_json(folder / "env.json", begun)
    assert not machine_for(run, Choices(threads=1), tmp_path).fold
    found = machine_for(run, Choices(), tmp_path)
    assert not found.fold
    assert differences(begun, describe(found)) == []
    assert differences(begun, describe(replace(found, fold=True))) == ["fold: False → True"]
