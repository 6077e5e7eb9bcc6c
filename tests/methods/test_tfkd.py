import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.tfkd import TFKD, tfkd_loss
from potstill.types import Trace


def plain(s, t, y):
    return tfkd_loss(s, y)


def derived(s, t, y, temperature=20.0, correct=0.99, shipped=False):
    found = []
    for u, _, label in response.rows(s, t, y):
        virtual = [correct if k == label else (1 - correct) / (len(u) - 1) for k in range(len(u))]
        powers = [math.exp(p / temperature) if shipped else p ** (1 / temperature) for p in virtual]
        target = [power / math.fsum(powers) for power in powers]
        found.append(response.divergence(target, response.softmax(u)))
    return response.mean(found)


@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize(("temperature", "correct"), [(20.0, 0.99), (1.0, 0.9), (40.0, 0.5)])
def test_it_is_the_divergence_from_the_softened_virtual_teacher(temperature, correct, shipped):
    response.assert_derived(
        lambda s, t, y: tfkd_loss(s, y, temperature=temperature, correct=correct, shipped=shipped),
        lambda s, t, y: derived(s, t, y, temperature, correct, shipped),
    )


def test_by_hand():
    # √0.9 : √0.1 is 3 : 1.
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = tfkd_loss(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1]), temperature=2, correct=0.9)
    assert found.item() == pytest.approx(want, rel=1e-9)


def test_at_temperature_1_the_gradient_is_that_of_smoothed_labels():
    s, y = response.logits(4, 5).requires_grad_(), response.labels(4, 5)
    tfkd_loss(s, y, temperature=1, correct=0.92).backward()
    other = s.detach().clone().requires_grad_()
    torch.nn.functional.cross_entropy(other, y, label_smoothing=0.1).backward()  # 0.1 over 5 classes: 0.92 is right.
    torch.testing.assert_close(s.grad, other.grad)


def test_laws():
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_survives_extremes(plain)
    response.assert_survives_extremes(lambda s, t, y: tfkd_loss(s, y, temperature=0.05, shipped=True))


@pytest.mark.parametrize("correct", [0.0, 1.0, 1.5, math.nan])
def test_a_probability_that_is_none_is_refused(correct):
    sentence = rf"The virtual teacher's probability of the label is {correct:g}; expected one between 0 and 1\."
    with pytest.raises(UserError, match=f"^{sentence}$"):
        tfkd_loss(torch.zeros(1, 2), torch.tensor([0]), correct=correct)
    with pytest.raises(UserError, match=f"^{sentence}$"):
        TFKD(correct=correct)


@pytest.mark.parametrize("shipped", [False, True])
def test_the_term_hands_its_options_on(shipped):
    s, y = response.logits(4, 5).requires_grad_(), response.labels(4, 5)
    term = TFKD(temperature=3, correct=0.8, shipped=shipped)
    loss = term.loss(response.batch_of(y), Trace(s, {}), None, None, response.START)
    assert loss.item() == pytest.approx(derived(s, s, y, 3.0, 0.8, shipped), rel=1e-9)
    assert derived(s, s, y, 3.0, 0.8, not shipped) != pytest.approx(loss.item(), rel=1e-3)
    loss.backward()
    assert s.grad is not None
    assert s.grad.abs().sum() > 0


def test_as_it_comes_it_is_the_papers_form_with_no_teacher():
    s, y = response.logits(4, 5), response.labels(4, 5)
    term = TFKD()
    loss = term.loss(response.batch_of(y), Trace(s, {}), None, None, response.START)
    assert loss.item() == pytest.approx(derived(s, s, y), rel=1e-9)
    assert (term.needs_teacher, term.companion, term.weight) == (False, None, 0.1)
    assert TFKD(only_right=True).needs_teacher
    response.assert_only_right(TFKD(only_right=True), lambda s, t, y: tfkd_loss(s, y))


def test_a_temperature_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        TFKD(temperature=0)
