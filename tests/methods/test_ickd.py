import math

import pytest
import torch

from methods.relations import (
    START,
    batch_of,
    is_as_precise_in_an_autocast_region,
    is_finite_everywhere,
    obeys_the_rules_of_detaching,
    plan,
    points,
    refuses_taps_that_do_not_pair,
    trace_of,
)
from potstill.errors import UserError
from potstill.methods.ickd import ICKD, ickd_loss


def derived(s, t):
    """(1/N) Σ_n (1/C) Σ_cd (G_s − G_t)²_cd, G the products of channels, each row over its norm."""

    def normalised(image):
        channels = image.flatten(1).tolist()
        gram = [[math.fsum(a * b for a, b in zip(p, q, strict=True)) for q in channels] for p in channels]
        return [[entry / math.hypot(*row) for entry in row] for row in gram]

    total = 0.0
    for ours, theirs in zip(s.double(), t.double(), strict=True):
        pairs = zip(normalised(ours), normalised(theirs), strict=True)
        total += math.fsum((a - b) ** 2 for p, q in pairs for a, b in zip(p, q, strict=True)) / len(ours)
    return total / len(s)


@pytest.mark.parametrize(("ours", "theirs"), [((1, 2, 2, 2), (1, 2, 2, 2)), ((3, 5, 4, 4), (3, 5, 2, 3))])
def test_the_loss_is_that_of_the_authors_whatever_the_sizes(ours, theirs):
    s, t = points(*ours), points(*theirs, seed=1)
    assert ickd_loss(s, t).item() == pytest.approx(derived(s, t), rel=1e-10)
    assert ickd_loss(s.float(), t.float()).item() == pytest.approx(derived(s, t), rel=1e-5)


def test_two_channels_by_hand():
    # The student's channels are alike, the teacher's at right angles: rows of √½ against those of the identity.
    s = torch.ones(1, 2, 1, 2)
    t = torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]])
    assert ickd_loss(s, t).item() == pytest.approx((1 - math.sqrt(0.5)) ** 2 + 0.5, rel=1e-6)


def test_positions_and_the_scale_of_an_image_do_not_matter_but_channels_do():
    s, t = points(3, 4, 3, 3), points(3, 4, 3, 3, seed=1)
    want = ickd_loss(s, t).item()
    scale = torch.tensor([0.5, 3.0, 9.0], dtype=torch.float64).view(3, 1, 1, 1)
    assert ickd_loss(scale * s.flip(2), t.transpose(2, 3)).item() == pytest.approx(want, rel=1e-10)
    assert ickd_loss(s, s).item() == 0
    order = [2, 0, 3, 1]
    assert ickd_loss(s[:, order], t[:, order]).item() == pytest.approx(want, rel=1e-10)
    assert ickd_loss(s[:, order], t).item() != pytest.approx(want, rel=1e-3)


def test_gradients_and_numbers_at_the_edges():
    s, t = points(2, 3, 2, 2), points(2, 3, 3, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: ickd_loss(x, t), (s.clone().requires_grad_(),))
    obeys_the_rules_of_detaching(ickd_loss, s, t)
    is_finite_everywhere(ickd_loss, s, t)
    is_as_precise_in_an_autocast_region(ickd_loss, s, t)


def test_unequal_channels_are_refused():
    sentence = (
        r"^The student's maps have 3 channels and the teacher's 4; expected equal ones: put a 1×1 convolution in "
    )
    with pytest.raises(UserError, match=sentence):
        ickd_loss(points(2, 3, 2, 2), points(2, 4, 2, 2))


def test_the_term_learns_a_convolution_with_batch_norm_on_the_students_side():
    s = points(4, 3, 2, 2, dtype=torch.float32).requires_grad_()
    t = points(4, 5, 4, 4, seed=1, dtype=torch.float32)
    term = ICKD()
    assert (term.weight, term.student_taps, term.teacher_taps) == (2.5, ("stage3",), ("stage3",))
    student, teacher = trace_of(stage3=s), trace_of(stage3=t)
    learned = term.build(student, teacher, plan())
    assert isinstance(learned, torch.nn.ModuleList)
    assert [tuple(p.shape) for p in learned.parameters()] == [(5, 3, 1, 1), (5,), (5,)]
    loss = term.loss(batch_of(4), student, teacher, learned, START)
    with torch.no_grad():
        assert loss.item() == pytest.approx(derived(learned[0](s), t), rel=1e-4)
    loss.backward()
    for x in (s, *learned.parameters()):
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_taps_that_do_not_fit_are_refused_by_the_dry_run():
    refuses_taps_that_do_not_pair(ICKD)
    sentence = r"^The term 'ickd' compares maps, but the student's 'stage3' is of shape \(N, 3\); expected a map "
    with pytest.raises(UserError, match=sentence):
        ICKD().build(trace_of(stage3=points(2, 3)), trace_of(stage3=points(2, 3, 2, 2)), plan())
