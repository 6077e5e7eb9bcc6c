import math

import pytest
import torch

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.vid import VID, vid_loss


def derived(mean, teacher, variance):
    N, C, H, W = mean.shape
    total = 0.0
    for n in range(N):
        for c in range(C):
            for m, t in zip(mean[n, c].flatten().tolist(), teacher[n, c].flatten().tolist(), strict=True):
                total += 0.5 * math.log(variance[c].item()) + (t - m) ** 2 / (2 * variance[c].item())
    return total / (N * C * H * W)


@pytest.mark.parametrize(("n", "c", "h", "w"), [(1, 1, 1, 1), (2, 3, 4, 2), (3, 5, 2, 2)])
def test_the_loss_is_the_mean_negative_log_likelihood(n, c, h, w):
    mean, teacher, variance = maps(n, c, h, w), maps(n, c, h, w, seed=1), maps(c, seed=2).exp()
    want = derived(mean, teacher, variance)
    assert vid_loss(mean, teacher, variance).item() == pytest.approx(want, rel=1e-9)
    assert vid_loss(mean.float(), teacher.float(), variance.float()).item() == pytest.approx(want, rel=1e-4)


def test_by_hand_and_below_zero():
    one = torch.ones(1, 1, 1, 1)
    assert vid_loss(one, 3 * one, torch.tensor([4.0])).item() == pytest.approx(math.log(2) + 0.5, rel=1e-6)
    assert vid_loss(one, one, torch.tensor([0.25])).item() == pytest.approx(-math.log(2), rel=1e-6)


def test_it_is_sound():
    assert_sound(vid_loss_in_order, [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)], [maps(3, seed=2).exp()])


def vid_loss_in_order(mean, teacher, variance):
    return vid_loss(mean, teacher, variance)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^There are 2 variances for 3 channels; expected one each\.$"):
        vid_loss(maps(2, 3, 2, 2), maps(2, 3, 2, 2), torch.ones(2, dtype=torch.float64))
    with pytest.raises(UserError, match=r"expected equal shapes: connect them first"):
        vid_loss(maps(2, 3, 2, 2), maps(2, 4, 2, 2), torch.ones(3, dtype=torch.float64))
    with pytest.raises(UserError, match=r"^The variance of 'vid' is 0; expected a number from 1e-05 to 100\.$"):
        VID(variance=0.0)


def test_the_term_starts_at_its_variance_which_is_learned():
    s, t = trace(stage1=maps(4, 2, 4, 4)), trace(stage1=maps(4, 3, 2, 2, seed=1))
    term = VID(student=("stage1",), teacher=("stage1",))
    learned = built(term, s, t)
    assert isinstance(learned, torch.nn.ModuleList)
    mean, variance = learned[0](torch.nn.functional.adaptive_avg_pool2d(s.taps["stage1"], 2))
    torch.testing.assert_close(variance, torch.full((3,), 5.0, dtype=torch.float64))
    assert value(term, s, t, learned) == pytest.approx(derived(mean, t.taps["stage1"], variance), rel=1e-6)
    assert [name for name, _ in learned.named_parameters()] == [
        "0.spread",
        "0.mean.0.weight",
        "0.mean.2.weight",
        "0.mean.4.weight",
    ]
