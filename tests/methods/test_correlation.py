import itertools
import math

import pytest
import torch

from methods.relations import (
    START,
    batch_of,
    is_finite_everywhere,
    misses_its_teacher,
    obeys_the_rules_of_detaching,
    plan,
    points,
    refuses_taps_that_do_not_pair,
    trace_of,
)
from potstill.errors import UserError
from potstill.methods.correlation import Correlation, correlation_loss


def derived(s, t):
    """The mean over i of Σ_c |s − t|_ic · |s − t|_(i+1)c."""
    apart = [[abs(a - b) for a, b in zip(p, q, strict=True)] for p, q in zip(s.tolist(), t.tolist(), strict=True)]
    pairs = itertools.pairwise(apart)
    return math.fsum(a * b for p, q in pairs for a, b in zip(p, q, strict=True)) / (len(apart) - 1)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 5), (9, 128)])
def test_the_loss_is_the_mean_over_neighbours(n, d):
    s, t = points(n, d), points(n, d, seed=1)
    assert correlation_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-12)
    assert correlation_loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-5)


def test_three_images_by_hand_and_their_order():
    s, t = torch.tensor([[1.0], [2.0], [-5.0]]), torch.zeros(3, 1)
    assert correlation_loss(s, t).item() == (1 * 2 + 2 * 5) / 2
    assert correlation_loss(s[[0, 2, 1]], t).item() == (1 * 5 + 5 * 2) / 2  # It depends on who stands beside whom.
    assert correlation_loss(t, s).item() == 6
    assert correlation_loss(s, s).item() == 0


def test_gradients_reach_both_sides():
    s, t = points(5, 4), points(5, 4, seed=1)
    both = (s.clone().requires_grad_(), t.clone().requires_grad_())
    assert torch.autograd.gradcheck(correlation_loss, both)
    obeys_the_rules_of_detaching(correlation_loss, s, t, learned_teacher=True)
    is_finite_everywhere(correlation_loss, s, t)


def test_a_single_image_has_no_neighbour_and_unequal_widths_are_refused():
    assert correlation_loss(points(1, 3), points(1, 3, seed=1)).item() == 0
    sentence = r"^The embeddings have shapes \(4, 3\) and \(4, 2\); expected equal ones: embed both to one width\.$"
    with pytest.raises(UserError, match=sentence):
        correlation_loss(points(4, 3), points(4, 2))


def test_the_term_learns_an_embedding_on_each_side_and_nothing_of_the_networks():
    s = points(4, 3, dtype=torch.float32).requires_grad_()
    t = points(4, 2, 2, 2, seed=1, dtype=torch.float32)
    term = Correlation(width=6)
    student, teacher = trace_of(pooled=s), trace_of(pooled=t)
    torch.manual_seed(0)
    learned = term.build(student, teacher, plan())
    assert isinstance(learned, torch.nn.ModuleList)
    assert [tuple(p.shape) for p in learned.parameters()] == [(6, 3), (6,), (6, 8), (6,)]
    loss = term.loss(batch_of(4), student, teacher, learned, START)
    (w, b), (v, c) = [tuple(p.detach().double() for p in part.parameters()) for part in learned]
    want = derived(s.detach().double() @ w.T + b, t.double().flatten(1) @ v.T + c)
    assert loss.item() == pytest.approx(want, rel=1e-5)
    loss.backward()
    for x in (s, *learned.parameters()):
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_the_terms_defaults_and_refusals():
    term = Correlation()
    assert (term.weight, term.width, term.student_taps, term.teacher_taps) == (0.02, 128, ("pooled",), ("pooled",))
    refuses_taps_that_do_not_pair(Correlation)
    misses_its_teacher(term, torch.nn.ModuleList())
    with pytest.raises(UserError, match=r"^The width of 'correlation' is 0; expected a whole number ≥ 1, such as 128"):
        Correlation(width=0)
