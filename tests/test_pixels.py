"""Small maps as matrix products: they equal the convolution, and nothing else about a network changes."""

import itertools
import warnings
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from potstill import narrow
from potstill.machine import Machine
from potstill.models import Network, build
from potstill.pixels import MOST, Conv2d, quicken

SIZES = [(1, 1), (1, 2), (2, 2), (1, 4), (4, 1), (1, 3)]
KINDS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (1, 3), "padding": (0, 1), "bias": False},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 7, "padding": 3, "stride": 3},
]


def layer(dtype=torch.float64, **options):
    torch.manual_seed(1)
    return nn.Conv2d(6, 10, **options).to(dtype)


def both(plain, x):
    """Outputs and gradients, of input and parameters, of a convolution and of the same one quickened."""
    told = []
    for module in (plain, deepcopy(plain)):
        if told:
            quicken(module)
        own = x.clone().requires_grad_()
        y = module(own)
        (y.float() * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum().backward()
        told.append((y.detach(), own.grad, *(parameter.grad for parameter in module.parameters())))
    return told


@pytest.mark.parametrize(("size", "options"), list(itertools.product(SIZES, KINDS)), ids=str)
def test_small_maps_give_what_the_convolution_gives_and_so_do_gradients(size, options):
    x = torch.randn(3, 6, *size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for want, found in zip(*both(layer(**options), x), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)


def test_under_autocast_it_is_no_further_from_the_truth_than_the_convolution():
    plain = layer(torch.float32, kernel_size=3, padding=1)
    x = torch.randn(64, 6, 2, 2, generator=torch.Generator().manual_seed(2))
    truth, _ = both(deepcopy(plain).double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        slow, quick = both(plain, x)
    assert quick[0].dtype == slow[0].dtype == torch.bfloat16
    for exact, one, other in zip(truth, slow, quick, strict=True):
        assert (other - exact).norm() <= 1.2 * (one - exact).norm()


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(6, 6, 3, padding=1, groups=2),
        nn.Conv2d(6, 6, 3, padding="same"),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(6, 6, 3, padding=1),
    ],
    ids=["groups", "same", "circular", "larger"],
)
def test_what_is_no_plain_convolution_of_a_small_map_is_left_to_torch(module):
    x = torch.randn(2, 6, 2, 2 if not isinstance(module.padding, tuple) or module.groups > 1 else MOST)
    before = module(x)
    quicken(module)
    assert torch.equal(module(x), before)


def test_a_first_look_in_inference_mode_spoils_no_gradient():
    plain = layer(torch.float32, kernel_size=(3, 1), padding=(1, 0), dilation=(1, 3))  # As no other test has it.
    quicken(plain)
    x = torch.randn(3, 6, 2, 1)
    with torch.inference_mode():
        plain(x)
    plain(x).sum().backward()
    assert plain.weight.grad is not None


@pytest.mark.parametrize("kind", [Conv2d, narrow.Conv2d])
def test_convolutions_of_few_pixels_are_compiled_into_one_graph(kind: type[Conv2d]):
    torch.manual_seed(1)
    # Narrow maps, then small ones with gaps, then one tap for each pixel.
    chain = nn.Sequential(
        nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 5, 3, 2, 1), nn.Conv2d(5, 5, 3, 1, 1), nn.Conv2d(5, 4, 1)
    )
    quicken(chain, kind)
    x = torch.randn(8, 6, 4, 4, requires_grad=True)

    def learned(run: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            y = run(x)
        return y, *torch.autograd.grad(y.float().square().sum(), [x, *chain.parameters()])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = learned(torch.compile(chain, backend="aot_eager", fullgraph=True))
    for found, expected in zip(compiled, learned(chain), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_placed_network_keeps_its_names_weights_and_kind():
    network = build(Network("torchvision:resnet18", 10))
    twin = deepcopy(network)
    Machine().place(network)
    assert sum(type(module) is Conv2d for module in network.modules()) == 20
    assert str(network) == str(twin)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    assert list(network.state_dict()) == list(twin.state_dict())
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(network.eval()(x), twin.eval()(x), rtol=1e-4, atol=1e-4)
