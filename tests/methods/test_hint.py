import pytest
import torch

from methods.maps import assert_sound, built, maps, trace, value
from potstill.connect import Identity, Regressor
from potstill.errors import UserError
from potstill.methods.hint import Hint, hint_loss


def derived(s, t):
    total = [(a - b) ** 2 for a, b in zip(s.double().flatten().tolist(), t.double().flatten().tolist(), strict=True)]
    return sum(total) / len(total)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 7), (2, 4, 6)])
def test_the_loss_is_the_mean_squared_difference(shape):
    s, t = maps(*shape), maps(*shape, seed=1)
    assert hint_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-9)
    assert hint_loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-5)
    assert hint_loss(s, s).item() == 0


def test_by_hand():
    assert hint_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])).item() == 2


def test_it_is_sound():
    assert_sound(hint_loss, [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])


def test_unlike_shapes_are_refused():
    sentence = (
        r"The student's activation is \(N, 3, 4, 4\) and the teacher's \(N, 3, 2, 2\); expected equal shapes: connect "
        r"them first \(potstill.connect\)\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        hint_loss(maps(2, 3, 4, 4), maps(2, 3, 2, 2))


def test_the_term_adds_up_its_pairs_behind_their_regressors():
    s = trace(stage1=maps(4, 2, 8, 8), stage2=maps(4, 3, 4, 4, seed=1))
    t = trace(stage1=maps(4, 5, 4, 4, seed=2), stage2=maps(4, 6, 8, 8, seed=3))
    term = Hint(student=("stage1", "stage2"), teacher=("stage1", "stage2"))
    learned = built(term, s, t)
    assert isinstance(learned, torch.nn.ModuleList)
    parts = zip(learned, term.student, strict=True)
    want = sum(hint_loss(part(s.taps[tap]), t.taps[tap]).item() for part, tap in parts)
    assert value(term, s, t, learned) == pytest.approx(want, rel=1e-9)
    assert term.weight == 100


def test_where_the_teachers_map_is_larger_by_another_factor_it_is_pooled():
    s, t = trace(stage2=maps(4, 3, 2, 2)), trace(stage2=maps(4, 3, 6, 6, seed=1))
    term = Hint(connector=Identity())
    pooled = torch.nn.functional.adaptive_avg_pool2d(t.taps["stage2"], 2)
    assert value(term, s, t, built(term, s, t)) == pytest.approx(derived(s.taps["stage2"], pooled), rel=1e-9)
    smaller = Hint(connector=Regressor(norm=False, relu=False))
    assert value(smaller, s, t, built(smaller, s, t)) > 0


def test_taps_that_do_not_pair_are_refused():
    sentence = (
        r"The term 'hint' compares 2 of the student's taps with 1 of the teacher's; expected pairs, at least one\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        Hint(student=("stage1", "stage2"))
    with pytest.raises(UserError, match=r"compares 0 of the student's taps with 0 of"):
        Hint(student=(), teacher=())


def test_a_vector_is_refused():
    s, t = trace(stage2=maps(2, 16)), trace(stage2=maps(2, 3, 4, 4))
    sentence = (
        r"The term 'hint' compares maps, but the student's 'stage2' is of shape \(N, 16\); expected a map "
        r"\(N, C, H, W\) or tokens \(N, T, C\): tap a layer of it\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(Hint(), s, t)
