import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.fsp import FSP, fsp_loss


def flow(bottom, top):
    """Equation 1 of one image: channels of the lower map by channels of the higher one."""
    return [
        sum(a * b for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) / x.numel()
        for x in bottom
        for y in top
    ]


def derived(student, teacher):
    squares: list[float] = []
    for s1, s2, t1, t2 in zip(*student, *teacher, strict=True):
        squares += [(a - b) ** 2 for a, b in zip(flow(s1, s2), flow(t1, t2), strict=True)]
    return sum(squares) / len(squares)


@pytest.mark.parametrize(("n", "c", "k", "size", "other"), [(1, 1, 1, 2, 2), (2, 3, 4, 2, 4), (3, 2, 5, 3, 1)])
def test_the_loss_is_the_mean_squared_difference_of_flows(n, c, k, size, other):
    s = (maps(n, c, size, size), maps(n, k, size, size, seed=1))
    t = (maps(n, c, other, other, seed=2), maps(n, k, other, other, seed=3))
    assert fsp_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-9)
    single = fsp_loss((s[0].float(), s[1].float()), (t[0].float(), t[1].float())).item()
    assert single == pytest.approx(derived(s, t), rel=1e-4)
    assert fsp_loss(s, s).item() == 0


def test_by_hand():
    one = torch.ones(1, 1, 2, 2)
    assert fsp_loss((one, 3 * one), (one, one)).item() == 4


def test_it_is_sound():
    def loss(a, b, c, d):
        return fsp_loss((a, b), (c, d))

    s, t = [maps(4, 3, 2, 2), maps(4, 5, 2, 2, seed=1)], [maps(4, 3, 2, 2, seed=2), maps(4, 5, 2, 2, seed=3)]
    assert_sound(loss, s, t)


def test_the_term_pairs_each_map_with_the_next():
    s = trace(stem=maps(2, 3, 8, 8), stage1=maps(2, 4, 4, 4, seed=1), stage2=maps(2, 5, 4, 4, seed=2))
    t = trace(stem=maps(2, 3, 4, 4, seed=3), stage1=maps(2, 4, 4, 4, seed=4), stage2=maps(2, 5, 2, 2, seed=5))
    taps = ("stem", "stage1", "stage2")
    term = FSP(student=taps, teacher=taps)
    assert built(term, s, t) is None
    pool = nn.functional.adaptive_avg_pool2d
    want = derived((pool(s.taps["stem"], 4), s.taps["stage1"]), (t.taps["stem"], t.taps["stage1"])) + derived(
        (s.taps["stage1"], s.taps["stage2"]), (pool(t.taps["stage1"], 2), t.taps["stage2"])
    )
    assert value(term, s, t) == pytest.approx(want, rel=1e-9)


def test_what_does_not_fit_is_refused():
    x, y = maps(2, 3, 4, 4), maps(2, 4, 4, 4)
    with pytest.raises(
        UserError, match=r"^The student's pair has 3 and 4 channels and the teacher's 3 and 3; expected"
    ):
        fsp_loss((x, y), (x, x))
    with pytest.raises(UserError, match=r"^The two maps of a pair are \(4, 4\) and \(2, 2\) in size; expected equal"):
        fsp_loss((x, maps(2, 4, 2, 2)), (x, y))
    with pytest.raises(UserError, match=r"^The term 'fsp' was given one tap of each network; expected at least two\.$"):
        FSP(student=("stage1",), teacher=("stage1",))
    sentence = (
        r"The term 'fsp' compares maps channel by channel, but the student's 'a' is \(N, 3, 4, 4\) and the teacher's "
        r"'b' \(N, 4, 4, 4\); choose layers of equal width, or a method with a connector\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(FSP(student=("a", "a"), teacher=("b", "b")), trace(a=x), trace(b=y))
