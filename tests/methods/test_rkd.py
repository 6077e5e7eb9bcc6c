import math
from typing import Any

import numpy as np
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
from potstill.methods import rkd
from potstill.methods.rkd import RKD, rkd_angle_loss, rkd_distance_loss


def smooth(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def derived_distance(s, t):
    """Equations 4 to 6: smooth L1 of distances over their mean positive value, over all ordered pairs."""

    def relative(x):
        rows = x.double().numpy()
        between = [[math.dist(a, b) for b in rows] for a in rows]
        positive = [d for row in between for d in row if d > 0]
        mean = math.fsum(positive) / len(positive)
        return [[d / mean for d in row] for row in between]

    pairs = zip(relative(s), relative(t), strict=True)
    return math.fsum(smooth(a - b) for p, q in pairs for a, b in zip(p, q, strict=True)) / len(s) ** 2


def derived_angle(s, t):
    """Equations 7 and 8: smooth L1 of the cosines at the vertex i of (j, i, k), over all ordered triples."""

    def cosine(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        length = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / length) if length else 0.0

    s, t, n = s.double().numpy(), t.double().numpy(), len(s)
    triples = [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]
    return math.fsum(smooth(cosine(s, *ijk) - cosine(t, *ijk)) for ijk in triples) / n**3


LOSSES = [(rkd_distance_loss, derived_distance), (rkd_angle_loss, derived_angle)]


@pytest.mark.parametrize(("loss", "derived"), LOSSES)
@pytest.mark.parametrize(("n", "c", "d"), [(2, 3, 3), (5, 4, 2), (11, 20, 7)])
def test_the_losses_are_those_of_the_paper(loss, derived, n, c, d):
    s, t = points(n, c), points(n, d, seed=1) * 3 + 5
    assert loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-9)
    assert loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-5)


def test_three_images_by_hand():
    # Along a line at 0, 1, 3 the distances are 1, 2, 3, of mean 2; at 0, 2, 3 they are 2, 1, 3.
    s, t = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [2.0], [3.0]])
    assert rkd_distance_loss(s, t).item() == pytest.approx(2 * (0.125 + 0.125) / 9, rel=1e-6)
    # At the student's corner the angle is right, on the teacher's line it is straight; elsewhere 45° against 0°.
    s, t = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), torch.tensor([[-1.0], [0.0], [1.0]])
    want = 2 * smooth(1.0) + 4 * smooth(1 - math.sqrt(0.5))
    assert rkd_angle_loss(s, t).item() == pytest.approx(want / 27, rel=1e-6)


@pytest.mark.parametrize(("loss", "derived"), LOSSES)
def test_moves_turns_and_scales_change_nothing(loss, derived):
    s, t = points(6, 5), points(6, 4, seed=1)
    want = loss(s, t).item()
    turn, _ = torch.linalg.qr(points(5, 5, seed=2))
    assert loss(1e-3 * (s @ turn) + 0.7, 1e3 * t - 40).item() == pytest.approx(want, rel=1e-9)
    order = [3, 1, 5, 0, 2, 4]
    assert loss(s[order], t[order]).item() == pytest.approx(want, rel=1e-10)
    assert loss(2 * s @ turn, s).item() == pytest.approx(0, abs=1e-20)
    assert want > 0.001


@pytest.mark.parametrize(("loss", "derived"), LOSSES)
def test_gradients_and_numbers_at_the_edges(loss, derived):
    s, t = points(5, 4), points(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (s.clone().requires_grad_(),))
    obeys_the_rules_of_detaching(loss, s, t)
    is_finite_everywhere(loss, s, t)
    is_as_precise_in_an_autocast_region(loss, s, t)


@pytest.mark.parametrize(("loss", "derived"), LOSSES)
def test_images_that_coincide_count_as_zero_and_draw_no_one(loss, derived):
    s, t = points(5, 4), points(5, 3, seed=1)
    s[3] = s[1]
    assert loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-9)
    s = s.float().requires_grad_()
    loss(s, t.float()).backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 10


def test_images_that_all_coincide_have_neither_distances_nor_angles():
    s, t = torch.ones(4, 3, dtype=torch.float64), points(4, 3)
    between = torch.cdist(t, t)
    want = math.fsum(smooth(d) for d in (between / between.sum() * 12).flatten().tolist()) / 16
    assert rkd_distance_loss(s, t).item() == pytest.approx(want, rel=1e-9)
    assert rkd_angle_loss(s, t).item() == pytest.approx(derived_angle(s, t), rel=1e-9)
    # A single image, as validation may end with.
    assert rkd_distance_loss(s[:1], t[:1]).item() == rkd_angle_loss(s[:1], t[:1]).item() == 0


@pytest.mark.parametrize("at_once", [1, 150, 700, 10**9])
def test_angles_in_chunks_are_the_same(monkeypatch, at_once):
    s, t = points(9, 4), points(9, 16, seed=1)
    leaf = s.clone().requires_grad_()
    want = rkd_angle_loss(leaf, t)
    want.backward()
    monkeypatch.setattr(rkd, "AT_ONCE", at_once)
    again = s.clone().requires_grad_()
    loss = rkd_angle_loss(again, t)
    loss.backward()
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=0)
    assert again.grad is not None
    torch.testing.assert_close(again.grad, leaf.grad, rtol=1e-10, atol=1e-14)


def test_no_tensor_of_all_angles_is_kept_for_the_way_back():
    s, t = points(128, 8, dtype=torch.float32).requires_grad_(), points(128, 8, seed=1, dtype=torch.float32)
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rkd, "AT_ONCE", 2**17)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            rkd_angle_loss(s, t)
    assert sum(kept.values()) < 128**3 * 4 / 50


@pytest.mark.parametrize(("distance", "angle"), [(25.0, 50.0), (2.0, 0.0), (0.0, 3.0)])
def test_the_term_weighs_both(distance, angle):
    s, t = points(4, 3), points(4, 2, 2, 2, seed=1)
    term = RKD(distance=distance, angle=angle)
    loss = term.loss(batch_of(4), trace_of(pooled=s), trace_of(pooled=t), None, START)
    flat = t.flatten(1)
    want = distance * derived_distance(s, flat) + angle * derived_angle(s, flat)
    assert loss.item() == pytest.approx(want, rel=1e-9)


def test_the_terms_defaults_and_refusals():
    term = RKD()
    assert (term.weight, term.distance, term.angle) == (1.0, 25.0, 50.0)
    assert (term.student_taps, term.teacher_taps) == (("pooled",), ("pooled",))
    refuses_taps_that_do_not_pair(RKD)
    misses_its_teacher(term)
    refused: list[dict[str, Any]] = [{"distance": -1.0}, {"angle": math.nan}, {"distance": 0.0, "angle": 0.0}]
    for weights in refused:
        sentence = r"^The distance and angle weights of 'rkd' are .*; expected numbers ≥ 0 that are not both 0\.$"
        with pytest.raises(UserError, match=sentence):
            RKD(**weights)
