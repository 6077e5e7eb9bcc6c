import math

import pytest
import torch

from potstill.gram import distances, precise, products, recomputed, rows, unit


def points(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def far_apart(x, y):
    """‖x_i − y_j‖ by the definition, in float64."""
    return torch.tensor([[math.dist(a, b) for b in y.tolist()] for a in x.tolist()], dtype=torch.float64)


def test_numbers_are_widened_to_float32_and_no_further():
    for dtype, want in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64,) * 2):
        assert precise(torch.zeros(2, dtype=dtype)).dtype == want
    x = torch.zeros(2)
    assert precise(x) is x
    assert rows(points(2, 3, 4, 5, dtype=torch.bfloat16)).shape == (2, 60)


def test_unit_rows_have_length_one_and_zeros_stay_without_a_gradient():
    x = points(4, 3)
    x[2] = 0
    x.requires_grad_()
    y = unit(x)
    torch.testing.assert_close(y.norm(dim=1), torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    (y * points(4, 3, seed=1)).sum().backward()
    assert x.grad is not None
    assert x.grad[2].abs().sum() == 0
    # A longer vector is the same direction: the gradient is at right angles to it.
    torch.testing.assert_close((x.grad * x).sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(unit(x, dim=0).norm(dim=0), torch.ones(3, dtype=torch.float64))


def test_products_keep_their_digits_in_an_autocast_region():
    x, y = points(3, 5, 40, dtype=torch.float32), points(3, 6, 40, seed=1, dtype=torch.float32)
    want = torch.einsum("bnd,bmd->bnm", x.double(), y.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = products(x, y)
        assert (x @ y.mT).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_distances_are_those_of_the_definition_also_far_from_the_origin(dtype, shift):
    x = points(7, 5, dtype=dtype) + shift
    rtol = 1e-9 if dtype == torch.float64 else 3e-5
    torch.testing.assert_close(distances(x).double(), far_apart(x, x), rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_points_that_coincide_are_at_distance_zero_and_ask_for_nothing(dtype, scale):
    x = points(40, 64, dtype=dtype) * scale
    x[17] = x[3]
    x.requires_grad_()
    between = distances(x)
    assert between[17, 3] == between[3, 17] == 0
    assert between.diagonal().abs().sum() == 0
    assert (between == 0).sum() == 42
    between[3, 17].backward()
    assert x.grad is not None
    assert x.grad.abs().sum() == 0


def test_the_gradient_of_distances_is_right():
    assert torch.autograd.gradcheck(distances, (points(5, 3).requires_grad_(),))


def test_what_is_recomputed_gives_the_same_gradient():
    calls = []

    def part(x, power):
        calls.append(power)
        return x.pow(power).sum()

    x = points(3).requires_grad_()
    recomputed(part, x, 3).backward()
    assert calls == [3, 3]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 3 * x.detach() ** 2)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format], ids=["by pixel", "by channel"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_gradients_come_back_in_the_layout_of_the_maps(memory, dtype):
    maps = torch.randn(2, 3, 4, 5, dtype=dtype).contiguous(memory_format=memory).requires_grad_()
    found = precise(maps)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(found, maps.to(found.dtype))
    by_channel = torch.randn(2, 3, 4, 5, dtype=found.dtype)
    (grad,) = torch.autograd.grad(found, maps, by_channel)
    assert grad.is_contiguous(memory_format=memory)
    assert torch.equal(grad, by_channel.to(dtype))
