import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.ab import AB, ab_loss


def derived(s, t, margin=1.0):
    total = 0.0
    for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True):
        if b <= 0 and a > -margin:
            total += (a + margin) ** 2
        elif b > 0 and a <= margin:
            total += (a - margin) ** 2
    return total / len(s)


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 2), (3, 5, 2, 2)])
def test_the_loss_is_what_is_missing_to_the_right_side(shape, margin):
    s, t = maps(*shape), maps(*shape, seed=1)
    want = derived(s, t, margin)
    assert ab_loss(s, t, margin=margin).item() == pytest.approx(want, rel=1e-9)
    assert ab_loss(s.float(), t.float(), margin=margin).item() == pytest.approx(want, rel=1e-4)


def test_by_hand():
    s, t = (torch.tensor(row).view(1, 1, 1, 4) for row in ([0.5, -2.0, -0.5, 3.0], [-1.0, 0.0, 2.0, 1.0]))
    assert ab_loss(s, t).item() == 1.5**2 + 0 + 1.5**2 + 0


def test_it_is_zero_where_the_student_is_clear_about_the_teachers_signs_whatever_their_size():
    t = maps(2, 3, 2, 2)
    assert ab_loss(t.sign(), t).item() == 0
    assert ab_loss(7 * t.sign(), t).item() == 0
    s = maps(2, 3, 2, 2, seed=1)
    assert ab_loss(s, t).item() == ab_loss(s, 100 * t).item()


def test_it_is_sound():
    assert_sound(ab_loss, [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])


def test_the_term_scales_by_three_thousandths_and_halves_lower_layers():
    taps = ("stage1.pre", "stage2.pre")
    s = trace(stage1_pre=maps(4, 2, 8, 8), stage2_pre=maps(4, 3, 4, 4, seed=1))
    t = trace(stage1_pre=maps(4, 5, 8, 8, seed=2), stage2_pre=maps(4, 6, 2, 2, seed=3))
    term = AB(student=taps, teacher=taps)
    learned = built(term, s, t)
    assert isinstance(learned, nn.ModuleList)
    low, high = (part(s.taps[tap]) for part, tap in zip(learned, taps, strict=True))
    high = nn.functional.adaptive_avg_pool2d(high, 2)
    want = 0.003 * (derived(low, t.taps[taps[0]]) / 2 + derived(high, t.taps[taps[1]]))
    assert value(term, s, t, learned) == pytest.approx(want, rel=1e-9)


def test_maps_of_equal_width_are_compared_as_they_are():
    s, t = trace(a=maps(4, 3, 4, 4)), trace(a=maps(4, 3, 4, 4, seed=1))
    term = AB(student=("a",), teacher=("a",))
    learned = built(term, s, t)
    assert learned is not None
    assert not list(learned.parameters())
    assert value(term, s, t, learned) == pytest.approx(0.003 * derived(s.taps["a"], t.taps["a"]), rel=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"expected equal shapes"):
        ab_loss(maps(2, 3, 2, 2), maps(2, 4, 2, 2))
    with pytest.raises(UserError, match=r"^The margin of 'ab' is -1; expected a number ≥ 0\.$"):
        AB(margin=-1.0)
