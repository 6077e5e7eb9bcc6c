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
from potstill.methods.similarity import Similarity, similarity_loss


def derived(s, t):
    """(1/N²) Σ_ij (G_s − G_t)²_ij with rows of G over their norm: equations 1 to 4, entry by entry."""

    def normalised(x):
        flat = x.double().flatten(1).tolist()
        gram = [[math.fsum(a * b for a, b in zip(p, q, strict=True)) for q in flat] for p in flat]
        return [[entry / math.hypot(*row) for entry in row] for row in gram]

    pairs = zip(normalised(s), normalised(t), strict=True)
    return math.fsum((a - b) ** 2 for p, q in pairs for a, b in zip(p, q, strict=True)) / len(s) ** 2


@pytest.mark.parametrize(("ours", "theirs"), [((1, 3), (1, 2)), ((5, 4), (5, 4)), ((6, 3, 4, 4), (6, 5, 2, 2))])
def test_the_loss_is_that_of_the_paper(ours, theirs):
    s, t = points(*ours), points(*theirs, seed=1)
    assert similarity_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-10)
    assert similarity_loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-5)


def test_two_images_by_hand():
    # The student's images are alike, the teacher's at right angles: rows of √½ against those of the identity.
    s, t = torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    apart = (1 - math.sqrt(0.5)) ** 2 + 0.5
    assert similarity_loss(s, t).item() == pytest.approx(2 * apart / 4, rel=1e-6)


def test_neither_rotation_nor_scale_nor_order_matters():
    s, t = points(6, 5), points(6, 4, seed=1)
    want = similarity_loss(s, t).item()
    turn, _ = torch.linalg.qr(points(5, 5, seed=2))
    assert similarity_loss(7 * s @ turn, t / 3).item() == pytest.approx(want, rel=1e-10)
    order = [3, 1, 5, 0, 2, 4]
    assert similarity_loss(s[order], t[order]).item() == pytest.approx(want, rel=1e-10)
    assert similarity_loss(s @ turn, s).item() == pytest.approx(0, abs=1e-20)


def test_gradients_and_numbers_at_the_edges():
    s, t = points(5, 4), points(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: similarity_loss(x, t), (s.clone().requires_grad_(),))
    obeys_the_rules_of_detaching(similarity_loss, s, t)
    is_finite_everywhere(similarity_loss, s, t)
    is_as_precise_in_an_autocast_region(similarity_loss, s, t)


def test_the_term_adds_up_its_pairs_of_maps():
    s, t = points(4, 3, 2, 2), points(4, 5, 4, 4, seed=1)
    term = Similarity()
    assert (term.weight, term.student_taps, term.teacher_taps) == (3000.0, ("stage3",), ("stage3",))
    one = term.loss(batch_of(4), trace_of(stage3=s), trace_of(stage3=t), None, START)
    assert one.item() == pytest.approx(derived(s, t), rel=1e-9)
    term = Similarity(student=("a", "b"), teacher=("c", "d"))
    both = term.loss(batch_of(4), trace_of(a=s, b=t), trace_of(c=t, d=s), None, START)
    assert both.item() == pytest.approx(2 * derived(s, t), rel=1e-9)
    refuses_taps_that_do_not_pair(Similarity)
    misses_its_teacher(term)
