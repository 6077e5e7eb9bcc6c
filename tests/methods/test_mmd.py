import math

import pytest
import torch

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.mmd import MMD, mmd_loss
from potstill.methods.nst import NST, nst_loss


def unit_rows(image):
    rows = [row.flatten().tolist() for row in image]
    return [[v / math.sqrt(math.fsum(u * u for u in row)) for v in row] for row in rows]


def squared(x, y):
    return math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def dot(x, y):
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def derived(s, t, kernel, bandwidth=None):
    """Equation 7 of the paper, channel by channel, mean over images."""
    ours, theirs = [unit_rows(x) for x in s], [unit_rows(x) for x in t]
    apart = [squared(x, y) for a, b in zip(ours, theirs, strict=True) for x in a for y in b]
    widths = bandwidth if isinstance(bandwidth, tuple) else (bandwidth or sum(apart) / len(apart),)

    def k(x, y):
        if kernel == "gaussian":
            return sum(math.exp(-squared(x, y) / (2 * width)) for width in widths) / len(widths)
        return dot(x, y) ** 2 if kernel == "polynomial" else dot(x, y)

    def mean(a, b):
        return math.fsum(k(x, y) for x in a for y in b) / (len(a) * len(b))

    images = [mean(a, a) + mean(b, b) - 2 * mean(a, b) for a, b in zip(ours, theirs, strict=True)]
    return math.fsum(images) / len(images)


KERNELS = [
    ("gaussian", None),
    ("gaussian", 0.3),
    ("gaussian", (0.1, 1.0, 10.0)),
    ("polynomial", None),
    ("linear", None),
]


@pytest.mark.parametrize(("kernel", "bandwidth"), KERNELS)
@pytest.mark.parametrize(
    ("n", "c", "k", "h", "w"), [(1, 2, 3, 2, 2), (3, 4, 2, 3, 2), (2, 5, 5, 4, 4), (2, 7, 6, 2, 2)]
)
def test_the_loss_is_the_biased_discrepancy(n, c, k, h, w, kernel, bandwidth):
    s, t = maps(n, c, h, w), maps(n, k, h, w, seed=1)
    want = derived(s, t, kernel, bandwidth)
    assert mmd_loss(s, t, kernel=kernel, bandwidth=bandwidth).item() == pytest.approx(want, rel=1e-8)
    single = mmd_loss(s.float(), t.float(), kernel=kernel, bandwidth=bandwidth).item()
    assert single == pytest.approx(want, rel=1e-4)
    if kernel == "polynomial":
        assert nst_loss(s, t).item() == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("bandwidth", [None, 0.3, (0.1, 1.0, 10.0)])
def test_of_maps_of_one_pixel_only_signs_are_left(bandwidth):
    s, t = maps(3, 5, 1, 1).requires_grad_(), maps(3, 4, 1, 1, seed=1)
    loss = mmd_loss(s, t, bandwidth=bandwidth)
    assert loss.item() == pytest.approx(derived(s.detach(), t, "gaussian", bandwidth), rel=1e-12)
    silent = s.detach().clone()
    silent[:, 0] = 0
    assert mmd_loss(silent, silent).item() == 0
    assert mmd_loss(silent, s.detach()) > 0
    loss.backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12


def test_by_hand():
    # One channel each, at a right angle: 1 + 1 − 2·exp(−2/(2·½)) and 1 + 1 − 0.
    s, t = torch.tensor([3.0, 0.0]).view(1, 1, 1, 2), torch.tensor([0.0, 5.0]).view(1, 1, 1, 2)
    assert mmd_loss(s, t, bandwidth=0.5).item() == pytest.approx(2 - 2 * math.exp(-2), rel=1e-6)
    for kernel in ("polynomial", "linear"):
        assert mmd_loss(s, t, kernel=kernel).item() == pytest.approx(2, rel=1e-6)
    assert nst_loss(s, t).item() == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize(("kernel", "bandwidth"), KERNELS)
def test_it_is_zero_between_equals_and_blind_to_order_and_scale_of_channels(kernel, bandwidth):
    s, t = maps(2, 4, 3, 3), maps(2, 5, 3, 3, seed=1)
    assert mmd_loss(s, s[:, [3, 1, 0, 2]], kernel=kernel, bandwidth=bandwidth).item() == pytest.approx(0, abs=1e-12)
    want = mmd_loss(s, t, kernel=kernel, bandwidth=bandwidth).item()
    scaled = s * torch.tensor([1.0, 2.0, 5.0, 0.5])[:, None, None]
    assert mmd_loss(scaled, t, kernel=kernel, bandwidth=bandwidth).item() == pytest.approx(want, rel=1e-9)
    assert want > 0


def test_no_gradient_flows_through_the_bandwidth():
    s, t = maps(2, 3, 2, 2).requires_grad_(), maps(2, 4, 2, 2, seed=1)
    ours, theirs = (torch.nn.functional.normalize(x.detach().flatten(2), dim=2) for x in (s, t))
    width = torch.cdist(ours, theirs).square().mean().item()
    found = torch.autograd.grad(mmd_loss(s, t), s)[0]
    torch.testing.assert_close(found, torch.autograd.grad(mmd_loss(s, t, bandwidth=width), s)[0])


@pytest.mark.parametrize(("kernel", "bandwidth"), KERNELS)
def test_it_is_sound(kernel, bandwidth):
    def loss(s, t):
        return mmd_loss(s, t, kernel=kernel, bandwidth=bandwidth)

    assert_sound(loss, [maps(4, 3, 4, 4)], [maps(4, 5, 4, 4, seed=1)])
    assert_sound(nst_loss, [maps(4, 3, 4, 4)], [maps(4, 5, 4, 4, seed=1)])


def test_silent_channels_and_equal_maps_give_finite_gradients():
    for s in (torch.zeros(2, 3, 2, 2), torch.ones(2, 1, 2, 2)):
        leaf = s.requires_grad_()
        (mmd_loss(leaf, leaf.detach()) + nst_loss(leaf, leaf.detach())).backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_products_are_taken_in_float32_under_autocast():
    s, t = maps(2, 8, 4, 4).float(), maps(2, 8, 4, 4, seed=1).float()
    for loss in (mmd_loss, nst_loss):
        with torch.autocast("cpu", torch.bfloat16):
            assert loss(s, t).item() == pytest.approx(loss(s, t).item(), rel=1e-6)
            found = loss(s, t).item()
        assert found == pytest.approx(loss(s, t).item(), rel=1e-6)


def test_the_terms_pool_the_larger_map_and_weigh_layers():
    s = trace(stage1=maps(2, 2, 4, 4), stage2=maps(2, 3, 2, 2, seed=1))
    t = trace(stage1=maps(2, 5, 2, 2, seed=2), stage2=maps(2, 6, 2, 2, seed=3))
    pooled = torch.nn.functional.adaptive_avg_pool2d(s.taps["stage1"], 2)
    both = ("stage1", "stage2")
    term = MMD(student=both, teacher=both, layers=(0.1, 0.4), bandwidths=(0.5, 2.0))
    want = 0.1 * derived(pooled, t.taps["stage1"], "gaussian", (0.5, 2.0))
    want += 0.4 * derived(s.taps["stage2"], t.taps["stage2"], "gaussian", (0.5, 2.0))
    assert value(term, s, t, built(term, s, t)) == pytest.approx(want, rel=1e-8)
    plain = derived(pooled, t.taps["stage1"], "polynomial") + derived(s.taps["stage2"], t.taps["stage2"], "polynomial")
    selective = NST(student=both, teacher=both)
    assert value(selective, s, t, built(selective, s, t)) == pytest.approx(plain, rel=1e-8)
    assert NST().weight == 50


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bandwidths": (1.0, 0.0)}, r"A bandwidth is 0; expected a number > 0, the variance σ² of the kernel\."),
        ({"bandwidths": (-2.0,)}, r"A bandwidth is -2; expected a number > 0, the variance σ² of the kernel\."),
        ({"layers": (1.0,)}, r"The term 'mmd' has 1 weights for 3 layers; expected one each\."),
        ({"layers": (1.0, -1.0, 0.0)}, r"The layers of 'mmd' weigh \(1\.0, -1\.0, 0\.0\); expected numbers ≥ 0\."),
    ],
)
def test_values_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        MMD(**options)


def test_a_bandwidth_of_zero_and_unlike_sizes_are_refused_by_the_functions():
    with pytest.raises(UserError, match=r"^A bandwidth is 0; expected"):
        mmd_loss(maps(2, 3, 2, 2), maps(2, 3, 2, 2), bandwidth=0.0)
    for loss in (mmd_loss, nst_loss):
        with pytest.raises(UserError, match=r"^The student's map is \(N, 3, 4, 4\) and the teacher's \(N, 5, 2, 2\);"):
            loss(maps(2, 3, 4, 4), maps(2, 5, 2, 2))
