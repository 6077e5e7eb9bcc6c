import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.cskd import CSKD, cskd_loss
from potstill.types import Trace


def plain(s, t, y):
    return cskd_loss(s, t)


def derived(s, t, y, temperature=4.0):
    return temperature**2 * response.mean(
        [
            response.divergence(response.softmax(v, temperature), response.softmax(u, temperature))
            for u, v, _ in response.rows(s, t, y)
        ]
    )


def test_it_is_the_softened_divergence_from_the_other_answer():
    response.assert_derived(plain, derived)
    response.assert_derived(lambda s, t, y: cskd_loss(s, t, temperature=1), lambda s, t, y: derived(s, t, y, 1.0))


def test_by_hand():
    s, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    want = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert cskd_loss(s, t, temperature=2).item() == pytest.approx(want, rel=1e-9)


def test_laws():
    response.assert_least_at_equality(plain)
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_survives_extremes(plain)


def test_the_drawn_half_learns_from_the_half_of_classmates_which_learns_nothing():
    both = torch.cat([response.logits(4, 5), response.logits(4, 5, seed=1)]).requires_grad_()
    term = CSKD(temperature=3)
    loss = term.loss(response.batch_of(response.labels(8, 5)), Trace(both, {}), None, None, response.START)
    loss.backward()
    s, t = both.detach()[:4], both.detach()[4:]
    assert loss.item() == pytest.approx(derived(s, t, response.labels(4, 5), 3.0), rel=1e-9)
    assert both.grad is not None
    torch.testing.assert_close(both.grad[:4], 3 * ((s / 3).softmax(1) - (t / 3).softmax(1)) / 4)
    assert not both.grad[4:].any()


def test_the_term_asks_for_classmates_and_for_no_teacher():
    term = CSKD()
    assert (term.companion, term.needs_teacher, term.modes) == ("classmate", False, ("self",))
    assert (term.temperature, term.weight) == (4, 1)


def test_options_that_do_not_fit_are_refused_with_a_sentence():
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        CSKD(temperature=0)
    with pytest.raises(UserError, match=r"^The term 'cskd' takes whole batches of pairs; leave only_right out\.$"):
        CSKD(only_right=True)
