import pytest
import torch
from torch import nn

from methods.maps import START, assert_sound, batch, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.semckd import SemCKD, semckd_loss


def derived(projected, targets, attention):
    N, total = len(attention), 0.0
    for n in range(N):
        for i, row in enumerate(projected):
            for j, s in enumerate(row):
                a, b = s[n].flatten().tolist(), targets[i][j][n].flatten().tolist()
                apart = sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / len(a)
                total += attention[n, i, j].item() * apart
    return total / (N * len(projected))


def table(n, rows, columns, seed):
    return [[maps(n, 2 + j, 1 + i, 2, seed=seed + 10 * i + j) for j in range(columns)] for i in range(rows)]


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (2, 2, 3), (4, 3, 1)])
def test_the_loss_is_the_attended_distance(n, rows, columns):
    s, t = table(n, rows, columns, 0), table(n, rows, columns, 500)
    attention = maps(n, rows, columns, seed=7).softmax(2)
    assert semckd_loss(s, t, attention).item() == pytest.approx(derived(s, t, attention), rel=1e-9)


def test_by_hand():
    one = torch.ones(1, 1, 1, 1)
    found = semckd_loss([[one, one], [one, one]], [[3 * one, one], [one, 2 * one]], torch.full((1, 2, 2), 0.5))
    assert found.item() == pytest.approx((0.5 * 4 + 0.5 * 1) / 2)


def test_it_is_sound_and_the_attention_gets_its_gradient():
    def loss(a, b, c, d, attention):
        return semckd_loss([[a, b]], [[c, d]], attention)

    s, t = [maps(4, 3, 2, 2), maps(4, 2, 1, 1, seed=1)], [maps(4, 3, 2, 2, seed=2), maps(4, 2, 1, 1, seed=3)]
    assert_sound(loss, s, t, [maps(4, 1, 2, seed=4).softmax(2)])


def traces(n=4):
    s = trace(stage1=maps(n, 3, 4, 4), stage2=maps(n, 5, 2, 2, seed=1))
    return s, trace(stage1=maps(n, 4, 8, 8, seed=2), stage2=maps(n, 6, 4, 4, seed=3), stage3=maps(n, 2, 1, 1, seed=4))


TERM = SemCKD(student=("stage1", "stage2"), share=1)


def test_the_term_compares_all_layers_and_learns_on_both_sides():
    s, t = traces()
    learned = built(TERM, s, t)
    assert learned is not None
    attention = learned.attention(list(s.taps.values()), list(t.taps.values()))  # type: ignore[operator]
    assert attention.shape == (4, 2, 3)
    torch.testing.assert_close(attention.sum(2), torch.ones(4, 2, dtype=torch.float64))
    loss = TERM.loss(batch(4), s, t, learned, START)
    loss.backward()
    assert loss.item() > 0
    for part in (learned.keys, learned.queries, learned.projectors):
        assert isinstance(part, nn.Module)
        assert all(p.grad is not None for p in part.parameters())
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_a_longer_batch_is_read_in_parts_and_a_short_one_is_filled_up():
    (s, t), learned = traces(10), built(TERM, *traces())
    assert learned is not None
    read = learned.attention  # type: ignore[assignment]
    whole = read(list(s.taps.values()), list(t.taps.values()))  # type: ignore[operator]
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        found = read([x[part] for x in s.taps.values()], [x[part] for x in t.taps.values()])  # type: ignore[operator]
        torch.testing.assert_close(found, whole[part])
    assert value(TERM, s, t, learned.eval()) > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^The share of 'semckd' is 0; expected a whole number ≥ 1\.$"):
        SemCKD(share=0)
    sentence = r"The term 'semckd' compares 0 of the student's taps with 3 of the teacher's; expected at least one on"
    with pytest.raises(UserError, match=f"^{sentence}"):
        SemCKD(student=())
    sentence = (
        r"'semckd' was given only_right, but its attention reads how an image resembles every other one of a whole "
        r"batch; leave only_right out, or take another method\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        SemCKD(only_right=True)
    with pytest.raises(UserError, match=r"expected equal shapes"):
        semckd_loss([[maps(2, 3, 2, 2)]], [[maps(2, 4, 2, 2)]], maps(2, 1, 1))
