import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.mgd import MGD, mgd_loss


def derived(s, t):
    pairs = zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) / len(s)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 2), (5, 2, 3, 3)])
def test_the_loss_is_a_sum_per_image(shape):
    s, t = maps(*shape), maps(*shape, seed=1)
    assert mgd_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-9)
    assert mgd_loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-5)


def test_by_hand():
    assert mgd_loss(torch.ones(2, 2, 2, 2), torch.full((2, 2, 2, 2), 3.0)).item() == 8 * 4


def test_it_is_sound():
    assert_sound(mgd_loss, [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])


def test_unlike_shapes_are_refused():
    with pytest.raises(UserError, match=r"expected equal shapes"):
        mgd_loss(maps(2, 3, 2, 2), maps(2, 4, 2, 2))


def test_whole_channels_are_masked_without_rescaling_by_the_seed_of_the_step():
    s, t = trace(stage3=maps(64, 20, 2, 2)), trace(stage3=maps(64, 20, 2, 2, seed=1))
    term = MGD(masked=0.25)
    learned = built(term, s, t)
    assert isinstance(learned, nn.ModuleList)
    seen: list[torch.Tensor] = []
    learned.get_submodule("0.generate").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    torch.manual_seed(1)
    first = value(term, s, t, learned)
    torch.manual_seed(1)
    assert value(term, s, t, learned) == first
    torch.manual_seed(2)
    assert value(term, s, t, learned) != first
    x = s.taps["stage3"]
    kept = (seen[0] != 0).all((2, 3))
    torch.testing.assert_close(seen[0], x * kept[:, :, None, None])
    assert 0.2 < 1 - kept.float().mean().item() < 0.3
    assert len(set(map(tuple, kept.tolist()))) == 64  # Another mask for each image.


def test_without_a_mask_it_is_the_loss_of_what_is_generated():
    s, t = trace(stage3=maps(4, 3, 4, 4)), trace(stage3=maps(4, 5, 2, 2, seed=1))
    term = MGD(masked=0.0)
    learned = built(term, s, t)
    assert isinstance(learned, nn.ModuleList)
    pooled = nn.functional.adaptive_avg_pool2d(s.taps["stage3"], 2)
    assert value(term, s, t, learned) == pytest.approx(derived(learned[0](pooled), t.taps["stage3"]), rel=1e-9)


@pytest.mark.parametrize("masked", [-0.1, 1.0])
def test_shares_out_of_range_are_refused(masked):
    with pytest.raises(UserError, match=r"^The share of masked channels is .*; expected a number from 0 to below 1\.$"):
        MGD(masked=masked)
