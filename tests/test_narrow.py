"""Weights' gradients from images side by side: they equal the convolution's, and nothing else changes."""

import itertools
from copy import deepcopy

import pytest
import torch
from torch import nn

from potstill import machine, narrow, pixels
from potstill.machine import Machine
from potstill.models import Network, build
from potstill.narrow import conv2d

SIZES = [(4, 4), (8, 8), (3, 5), (7, 2), (1, 6), (5, 16)]
KINDS = [  # Kernel, stride, padding.
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((1, 1), (1, 1), (0, 0)),
    ((1, 1), (2, 2), (0, 0)),
    ((5, 5), (2, 2), (2, 2)),
    ((7, 7), (3, 3), (3, 3)),
    ((2, 3), (1, 2), (1, 1)),
    ((4, 1), (2, 3), (3, 0)),
]


def layer(inputs=6, outputs=10, kernel_size=3, padding=1, **options):
    torch.manual_seed(1)
    return nn.Conv2d(inputs, outputs, kernel_size, padding=padding, **options)


def learned(module, x):
    """The output, and gradients of the input and of the parameters."""
    own = x.clone().requires_grad_()
    y = module(own)
    (y.float() * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum().backward()
    found = [y.detach(), own.grad, *(parameter.grad for parameter in module.parameters())]
    return [each for each in found if each is not None]


@pytest.mark.parametrize(("size", "kind"), list(itertools.product(SIZES, KINDS)), ids=str)
@pytest.mark.parametrize("images", [2, 3, 12, 16])
def test_the_gradients_are_those_of_the_convolution(size, kind, images):
    kernel, stride, padding = kind
    generator = torch.Generator().manual_seed(2)
    x, w, b = given = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((images, 6, *size), (10, 6, *kernel), (10,))
    ]
    want, found = nn.functional.conv2d(x, w, b, stride, padding), conv2d(x, w, b, stride, padding)
    assert torch.equal(found, want)
    weight = torch.randn(want.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(*(torch.autograd.grad((y * weight).sum(), given) for y in (want, found)), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_its_gradients_have_gradients():
    x, w = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 2, 3, 4), (3, 2, 3, 3)))
    assert torch.autograd.gradgradcheck(lambda x, w: conv2d(x, w, None, (1, 1), (1, 1)), (x, w))


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"bias": False}, {"kernel_size": 1, "padding": 0}], ids=str)
def test_in_bfloat16_all_but_the_weights_gradient_is_bitwise_the_same(options):
    plain = layer(**options)
    x = torch.randn(16, 6, 8, 4, generator=torch.Generator().manual_seed(2)).to(memory_format=torch.channels_last)
    quick, exact = deepcopy(plain), deepcopy(plain).double()
    pixels.quicken(quick, narrow.Conv2d)
    with torch.autocast("cpu", torch.bfloat16):
        one, other = learned(plain, x), learned(quick, x)
    truth = learned(exact, x.double())
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    for exactly, slow, fast in zip(truth[2:], one[2:], other[2:], strict=True):
        assert fast.dtype == slow.dtype == torch.float32
        assert (fast - exactly).norm() <= 1.2 * (slow - exactly).norm()


@pytest.fixture
def steps(monkeypatch):
    """How often the backward pass of narrow maps was asked for."""
    found = []
    own = narrow._abreast
    monkeypatch.setattr(narrow, "_abreast", lambda *given: found.append(given) or own(*given))
    return found


@pytest.mark.parametrize(
    ("options", "images", "width"),
    [
        ({}, 4, 5),
        ({"inputs": 128, "outputs": 128}, 4, 9),
        ({"inputs": 128, "outputs": 127}, 4, 8),
        ({}, 1, 4),
        ({}, 4, 2),
        ({"groups": 2}, 4, 4),
        ({"dilation": 2}, 4, 4),
        ({"padding": 0}, 4, 4),
        ({"padding": "same"}, 4, 4),
        ({"padding_mode": "circular"}, 4, 4),
    ],
    ids=str,
)
def test_whatever_else_is_left_to_the_parent(options, images, width, steps):
    plain = layer(**options)
    x = torch.randn(images, plain.in_channels, 2 if width == 2 else 8, width)
    parent, child = deepcopy(plain), deepcopy(plain)
    pixels.quicken(parent)
    pixels.quicken(child, narrow.Conv2d)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, learned(parent, x), learned(child, x)))
    assert not steps


@pytest.mark.parametrize(
    ("options", "width"), [({}, 4), ({"stride": 2}, 8), ({"inputs": 128, "outputs": 128}, 8)], ids=str
)
def test_narrow_maps_are_those_with_few_pixels_for_their_channels(options, width, steps):
    module = layer(**options)
    pixels.quicken(module, narrow.Conv2d)
    with torch.autocast("cpu", torch.bfloat16):
        learned(module, torch.randn(4, module.in_channels, 8, width))
    assert len(steps) == 2


def test_it_is_for_learning_in_bfloat16_alone(steps):
    module = layer()
    pixels.quicken(module, narrow.Conv2d)
    x = torch.randn(4, 6, 8, 4)
    learned(module, x)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            module(x)
        module.weight.requires_grad_(False)
        assert module(x.requires_grad_()).sum().backward() is None
        assert not steps
        module.weight.requires_grad_(True)
        learned(module, x.detach())
    assert len(steps) == 2


@pytest.mark.parametrize(
    ("precision", "flags", "kind"),
    [
        ("bf16", {"amx_bf16", "avx512_bf16"}, narrow.Conv2d),
        ("bf16", {"avx512_bf16"}, pixels.Conv2d),
        ("fp32", {"amx_bf16", "avx512_bf16"}, pixels.Conv2d),
    ],
)
def test_a_machine_that_multiplies_tiles_uses_it_wherever_the_network_was_before(monkeypatch, precision, flags, kind):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    network = build(Network("resnet8", 10))
    pixels.quicken(network, narrow.Conv2d)
    names = list(network.state_dict())
    Machine(precision=precision).place(network)
    assert {type(module) for module in network.modules() if isinstance(module, nn.Conv2d)} == {kind}
    assert list(network.state_dict()) == names
