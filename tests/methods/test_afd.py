import math

import pytest
import torch
from torch import nn

from methods.maps import START, assert_sound, batch, built, maps, trace
from potstill.errors import UserError
from potstill.methods.afd import AFD, afd_loss


def attended(image):
    C, H, W = image.shape
    squares = [sum(image[c, y, x].item() ** 2 for c in range(C)) / C for y in range(H) for x in range(W)]
    length = math.sqrt(math.fsum(v * v for v in squares))
    return [v / length for v in squares]


def derived(student, teacher, attention):
    total = 0.0
    for n in range(len(teacher)):
        target = attended(teacher[n])
        for place, s in enumerate(student):
            apart = [(a - b) ** 2 for a, b in zip(attended(s[n]), target, strict=True)]
            total += attention[n, place].item() * sum(apart) / len(apart)
    return total / len(teacher)


@pytest.mark.parametrize(("n", "layers", "h", "w"), [(1, 1, 2, 1), (2, 3, 2, 4), (4, 2, 3, 3)])
def test_the_loss_is_the_attended_distance_of_attention_maps(n, layers, h, w):
    student = [maps(n, 2 + i, h, w, seed=i) for i in range(layers)]
    teacher, attention = maps(n, 3, h, w, seed=50), maps(n, layers, seed=60).softmax(1)
    want = derived(student, teacher, attention)
    assert afd_loss(student, teacher, attention).item() == pytest.approx(want, rel=1e-9)
    # In two parts it is the same sum.
    parts = [afd_loss([s], teacher, attention[:, i : i + 1]).item() for i, s in enumerate(student)]
    assert sum(parts) == pytest.approx(want, rel=1e-9)
    assert afd_loss([teacher] * layers, teacher, attention).item() == 0


def test_by_hand():
    s, t = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), torch.tensor([0.0, 5.0]).view(1, 1, 1, 2)
    assert afd_loss([s, t], t, torch.tensor([[0.25, 0.75]])).item() == pytest.approx(0.25)


def test_it_is_sound_and_the_attention_gets_its_gradient():
    def loss(a, b, teacher, attention):
        return afd_loss([a, b], teacher, attention)

    student = [maps(4, 3, 2, 2), maps(4, 2, 2, 2, seed=1)]
    assert_sound(loss, student, [maps(4, 5, 2, 2, seed=2)], [maps(4, 2, seed=3).softmax(1)])


def test_the_term_adds_up_the_teachers_layers_and_learns_on_both_sides():
    s = trace(stage1=maps(4, 3, 4, 4), stage2=maps(4, 5, 2, 2, seed=1))
    t = trace(stage1=maps(4, 4, 4, 4, seed=2), stage2=maps(4, 6, 4, 4, seed=3), stage3=maps(4, 2, 2, 2, seed=4))
    term = AFD(student=("stage1", "stage2"), width=8)
    learned = built(term, s, t)
    assert learned is not None
    attention = learned(list(s.taps.values()), list(t.taps.values()))
    torch.testing.assert_close(attention.sum(2), torch.ones(4, 3, dtype=torch.float64))
    pool = nn.functional.adaptive_avg_pool2d
    want = 0.0
    for place, target in enumerate(t.taps.values()):
        for layer, ours in enumerate(s.taps.values()):
            size = min(ours.shape[2], target.shape[2])
            share = attention[:, place, layer : layer + 1]
            want += derived([pool(ours, size)], pool(target, size), share)
    loss = term.loss(batch(4), s, t, learned, START)
    assert loss.item() == pytest.approx(want, rel=1e-6)
    loss.backward()
    for name, parameter in learned.named_parameters():
        assert parameter.grad is not None, name
    for part in (learned.keys, learned.queries):
        assert isinstance(part, nn.Module)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^The width of 'afd' is 0; expected a whole number ≥ 1\.$"):
        AFD(width=0)
    with pytest.raises(UserError, match=r"^The term 'afd' compares 3 of the student's taps with 0 of the teacher's;"):
        AFD(teacher=())
    with pytest.raises(UserError, match=r"expected equal heights and widths: pool the larger one"):
        afd_loss([maps(2, 3, 4, 4)], maps(2, 3, 2, 2), maps(2, 1))
