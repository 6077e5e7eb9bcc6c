import math

import pytest
import torch

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.attention import Attention, attention_loss


def attended(image, p):
    """Equation 2's Q of one image (C, H, W), position by position."""
    C, H, W = image.shape
    powers = [sum(abs(image[c, y, x].item()) ** p for c in range(C)) / C for y in range(H) for x in range(W)]
    length = math.sqrt(math.fsum(v * v for v in powers))
    return [v / length for v in powers]


def derived(s, t, p=2):
    squares = [
        (a - b) ** 2
        for one, other in zip(s, t, strict=True)
        for a, b in zip(attended(one, p), attended(other, p), strict=True)
    ]
    return math.fsum(squares) / len(squares)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("n", "c", "k", "h", "w"), [(1, 1, 2, 2, 2), (2, 3, 5, 4, 3), (3, 8, 2, 1, 6)])
def test_the_loss_is_the_mean_squared_difference_of_attention(n, c, k, h, w, p):
    s, t = maps(n, c, h, w), maps(n, k, h, w, seed=1)
    assert attention_loss(s, t, p=p).item() == pytest.approx(derived(s, t, p), rel=1e-9)
    assert attention_loss(s.float(), t.float(), p=p).item() == pytest.approx(derived(s, t, p), rel=1e-4)


def test_by_hand():
    # One channel, two positions: squares (9, 16)/√337 against (0, 1).
    s, t = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.tensor([0.0, 7.0]).view(1, 1, 1, 2)
    want = ((9 / math.sqrt(337)) ** 2 + (16 / math.sqrt(337) - 1) ** 2) / 2
    assert attention_loss(s, t).item() == pytest.approx(want, rel=1e-6)


def test_scale_sign_and_order_of_channels_change_nothing():
    s, t = maps(2, 4, 3, 3), maps(2, 5, 3, 3, seed=1)
    want = attention_loss(s, t).item()
    assert attention_loss(-3 * s[:, [2, 0, 3, 1]], t).item() == pytest.approx(want, rel=1e-9)
    assert attention_loss(s, s).item() == 0


def test_silent_maps_give_finite_gradients():
    s = torch.zeros(2, 3, 2, 2, requires_grad=True)
    attention_loss(s, maps(2, 3, 2, 2).float()).backward()
    assert s.grad is not None
    assert s.grad.isfinite().all()


def test_it_is_sound():
    assert_sound(attention_loss, [maps(4, 3, 4, 4)], [maps(4, 5, 4, 4, seed=1)])


def test_maps_of_unlike_size_are_refused():
    sentence = (
        r"The student's map is \(N, 3, 4, 4\) and the teacher's \(N, 5, 2, 2\); expected equal heights and widths: "
        r"pool the larger one \(potstill.connect.match_size\)\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        attention_loss(maps(2, 3, 4, 4), maps(2, 5, 2, 2))


def test_the_term_pools_the_larger_map_and_adds_up():
    s = trace(stage1=maps(2, 2, 8, 8), stage2=maps(2, 3, 4, 4, seed=1), stage3=maps(2, 3, 2, 2, seed=4))
    t = trace(stage1=maps(2, 5, 4, 4, seed=2), stage2=maps(2, 6, 8, 8, seed=3), stage3=maps(2, 3, 2, 2, seed=5))
    pool = torch.nn.functional.adaptive_avg_pool2d
    want = (
        derived(pool(s.taps["stage1"], 4), t.taps["stage1"])
        + derived(s.taps["stage2"], pool(t.taps["stage2"], 4))
        + derived(s.taps["stage3"], t.taps["stage3"])
    )
    assert value(Attention(), s, t, built(Attention(), s, t)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("p", [0.5, -1, math.nan])
def test_powers_below_one_are_refused(p):
    with pytest.raises(UserError, match=r"^The power p of 'attention' is .*; expected a number ≥ 1\.$"):
        Attention(p=p)
