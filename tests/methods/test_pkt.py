import math

import pytest
import torch

from methods.relations import (
    START,
    batch_of,
    is_as_precise_in_an_autocast_region,
    is_finite_everywhere,
    misses_its_teacher,
    obeys_the_rules_of_detaching,
    points,
    refuses_taps_that_do_not_pair,
    trace_of,
)
from potstill.errors import UserError
from potstill.methods.pkt import PKT, pkt_loss


def derived(s, t, eps=1e-7):
    """The mean over i, j of p_t log((p_t + ε)/(p_s + ε)), p the shifted cosines over their row sum."""

    def nearness(x):
        flat = x.double().tolist()
        cosine = [
            [math.fsum(a * b for a, b in zip(p, q, strict=True)) / (math.hypot(*p) * math.hypot(*q)) for q in flat]
            for p in flat
        ]
        return [[(c + 1) / math.fsum(c + 1 for c in row) for c in row] for row in cosine]

    pairs = [(a, b) for p, q in zip(nearness(s), nearness(t), strict=True) for a, b in zip(p, q, strict=True)]
    return math.fsum(b * math.log((b + eps) / (a + eps)) for a, b in pairs) / len(pairs)


@pytest.mark.parametrize(("n", "c", "d"), [(2, 3, 3), (5, 4, 2), (12, 30, 17)])
def test_the_loss_is_that_of_the_paper_in_the_mean(n, c, d):
    s, t = points(n, c), points(n, d, seed=1)
    assert pkt_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-10)
    assert pkt_loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-4)
    assert pkt_loss(s, t, eps=0.01).item() == pytest.approx(derived(s, t, 0.01), rel=1e-10)


def test_two_images_by_hand():
    # Cosine 0 for the teacher: p = (⅔, ⅓); cosine 1 for the student: p = (½, ½); both rows alike.
    s, t = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    want = (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)) / 2
    assert pkt_loss(s, t).item() == pytest.approx(want, rel=1e-5)


def test_rotation_scale_per_image_and_order_change_nothing():
    s, t = points(6, 5), points(6, 4, seed=1)
    want = pkt_loss(s, t).item()
    turn, _ = torch.linalg.qr(points(5, 5, seed=2))
    scale = torch.arange(1.0, 7.0, dtype=torch.float64).unsqueeze(1)
    assert pkt_loss(s @ turn * scale, t / scale).item() == pytest.approx(want, rel=1e-10)
    order = [3, 1, 5, 0, 2, 4]
    assert pkt_loss(s[order], t[order]).item() == pytest.approx(want, rel=1e-10)
    assert pkt_loss(s @ turn, s).item() == pytest.approx(0, abs=1e-15)
    assert want > 0


def test_gradients_and_numbers_at_the_edges():
    s, t = points(5, 4), points(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: pkt_loss(x, t), (s.clone().requires_grad_(),))
    obeys_the_rules_of_detaching(pkt_loss, s, t)
    is_finite_everywhere(pkt_loss, s, t)
    is_as_precise_in_an_autocast_region(pkt_loss, s, t)
    opposite = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    assert pkt_loss(opposite, opposite.flip(1)).isfinite()


def test_the_term_compares_pooled_features():
    s, t = points(4, 3), points(4, 5, seed=1)
    term = PKT()
    assert (term.weight, term.eps, term.student_taps, term.teacher_taps) == (30000.0, 1e-7, ("pooled",), ("pooled",))
    loss = term.loss(batch_of(4), trace_of(pooled=s), trace_of(pooled=t), None, START)
    assert loss.item() == pytest.approx(derived(s, t), rel=1e-9)
    refuses_taps_that_do_not_pair(PKT)
    misses_its_teacher(term)
    for eps in (0.0, math.nan):
        with pytest.raises(UserError, match=r"^The eps of 'pkt' is .*; expected a small number > 0, such as 1e-7\.$"):
            PKT(eps=eps)
