import math

import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.review import Review, hcl_loss


def pooled(x, size):
    h, w = x.shape[2] // size, x.shape[3] // size
    return [
        sum(cell) / len(cell)
        for image in x
        for channel in image
        for i in range(size)
        for j in range(size)
        for cell in [channel[i * h : (i + 1) * h, j * w : (j + 1) * w].flatten().tolist()]
    ]


def mean_square(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


SHARES = {1: (1,), 2: (2, 1), 4: (4, 2, 1), 8: (8, 4, 2, 1), 16: (8, 4, 2, 1)}
SIZES = {1: (1,), 2: (2, 1), 4: (4, 2, 1), 8: (8, 4, 2, 1), 16: (16, 4, 2, 1)}


@pytest.mark.parametrize("h", [1, 2, 4, 8, 16])
def test_the_loss_weighs_levels_by_halves(h):
    s, t = maps(2, 3, h, h), maps(2, 3, h, h, seed=1)
    parts = [
        share * mean_square(pooled(s, size), pooled(t, size)) for share, size in zip(SHARES[h], SIZES[h], strict=True)
    ]
    want = sum(parts) / sum(SHARES[h])
    assert hcl_loss(s, t).item() == pytest.approx(want, rel=1e-9)
    assert hcl_loss(s.float(), t.float()).item() == pytest.approx(want, rel=1e-4)
    assert hcl_loss(s, s).item() == 0


def test_by_hand():
    # At full size 1 everywhere, at 1×1 nothing is left of it: (2·1 + 1·0)/3.
    s = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    assert hcl_loss(s, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(2 / 3)


def test_it_is_sound():
    assert_sound(hcl_loss, [maps(4, 3, 4, 4)], [maps(4, 3, 4, 4, seed=1)])


def test_the_term_fuses_from_the_deepest_up():
    s = trace(stage1=maps(4, 3, 4, 4), stage2=maps(4, 5, 2, 2, seed=1), pooled=maps(4, 6, seed=2))
    t = trace(stage1=maps(4, 7, 4, 4, seed=3), stage2=maps(4, 8, 4, 4, seed=4), pooled=maps(4, 9, seed=5))
    taps = ("stage1", "stage2", "pooled")
    term = Review(student=taps, teacher=taps)
    learned = built(term, s, t)
    assert isinstance(learned, nn.ModuleList)
    pool = nn.functional.adaptive_avg_pool2d
    deepest, down = learned[2](s.taps["pooled"][:, :, None, None], None)
    middle, down = learned[1](s.taps["stage2"], down)
    lowest, down = learned[0](s.taps["stage1"], down)
    assert down.shape == (4, 6, 4, 4)  # As wide as the deepest of the student.
    want = hcl_loss(deepest, t.taps["pooled"][:, :, None, None])
    want = want + hcl_loss(middle, pool(t.taps["stage2"], 2)) + hcl_loss(lowest, t.taps["stage1"])
    assert value(term, s, t, learned) == pytest.approx(want.item(), rel=1e-6)
    # What is deeper reaches what is lower.
    other = trace(stage1=s.taps["stage1"], stage2=s.taps["stage2"], pooled=maps(4, 6, seed=9))
    again = learned[0](
        s.taps["stage1"], learned[1](s.taps["stage2"], learned[2](other.taps["pooled"][:, :, None, None], None)[1])[1]
    )
    assert not torch.allclose(again[0], lowest)


def test_the_fusions_convolutions_start_as_published():
    s, t = trace(a=maps(4, 48, 4, 4), b=maps(4, 32, 2, 2)), trace(a=maps(4, 48, 4, 4), b=maps(4, 32, 2, 2))
    learned = built(Review(student=("a", "b"), teacher=("a", "b")), s, t)
    assert learned is not None
    for place, inputs in ((0, 48), (1, 32)):
        for name, fan in ((f"{place}.reduce.0.weight", inputs), (f"{place}.expand.0.weight", 9 * 32)):
            # Uniform up to √(3 / inputs).
            assert learned.get_parameter(name).abs().max().item() == pytest.approx(math.sqrt(3 / fan), rel=0.02)


def test_unlike_shapes_are_refused():
    with pytest.raises(UserError, match=r"expected equal shapes"):
        hcl_loss(maps(2, 3, 4, 4), maps(2, 3, 2, 2))
    assert (Review().weight, Review().warmup) == (5, 20)
