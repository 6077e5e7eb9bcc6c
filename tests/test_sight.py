"""A look at a network leaves it as it was."""

import pytest
import torch
from torch import nn

from potstill.errors import UserError
from potstill.models import Network, build
from potstill.sight import look


def seen(network: nn.Module) -> tuple[list[bool], dict[str, torch.Tensor], int]:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())
    return [module.training for module in network.modules()], state, hooks


@pytest.mark.parametrize("taps", [("stage1", "stage2.pre"), ("stage1", "stage9")], ids=["right", "wrong"])
def test_a_look_changes_neither_modes_nor_statistics_nor_random_numbers(taps: tuple[str, ...]):
    network = build(Network("resnet8", classes=10, channels=3))
    network.train()
    network.get_submodule("layer2").eval()
    before, random = seen(network), torch.random.get_rng_state()
    if "stage9" in taps:
        with pytest.raises(UserError):
            look("student", network, taps, (3, 16, 16), 10)
    else:
        assert look("student", network, taps, (3, 16, 16), 10).logits.shape == (2, 10)
    with pytest.raises(UserError, match="cannot read images"):
        look("student", network, (), (1, 16, 16), 10)
    after = seen(network)
    assert (after[0], after[2]) == (before[0], before[2])
    assert all(torch.equal(value, before[1][name]) for name, value in after[1].items())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_look_sees_what_evaluation_sees():
    network = build(Network("resnet8", classes=10, channels=3)).train()
    shown = look("student", network, ("stage3",), (3, 16, 16), 10)
    with torch.no_grad():
        assert torch.equal(shown.logits, network.eval()(torch.zeros(2, 3, 16, 16)))
