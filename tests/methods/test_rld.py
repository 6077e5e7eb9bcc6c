import math

import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.rld import RLD, rld_loss


def derived(s, t, y, alpha=1.0, beta=8.0, temperature=4.0, binary=1.0):
    found = []
    for u, v, label in response.rows(s, t, y):
        p_s, p_t = response.softmax(u, binary), response.softmax(v, binary)
        top = max(range(len(v)), key=v.__getitem__)
        sure = response.divergence(
            [p_t[top], math.fsum(response.without(p_t, top))], [p_s[label], math.fsum(response.without(p_s, label))]
        )
        left = [k for k in range(len(v)) if v[k] < v[label]]
        lesser = 0.0
        if left:
            kept = [response.softmax([row[k] for k in left], temperature) for row in (v, u)]
            lesser = response.divergence(*kept)
        found.append(alpha * binary**2 * sure + beta * temperature**2 * lesser)
    return response.mean(found)


@pytest.mark.parametrize(
    ("alpha", "beta", "temperature", "binary"), [(1.0, 8.0, 4.0, 1.0), (0.5, 2.0, 1.0, 2.0), (0.0, 1.0, 2.0, 1.0)]
)
def test_it_is_the_binary_part_and_the_lesser_classes(alpha, beta, temperature, binary):
    response.assert_derived(
        lambda s, t, y: rld_loss(s, t, y, alpha=alpha, beta=beta, temperature=temperature, binary_temperature=binary),
        lambda s, t, y: derived(s, t, y, alpha, beta, temperature, binary),
    )


def test_by_hand_where_the_teacher_is_wrong():
    # The teacher says (½, ¼, ¼) of class 1, 0, 2; the label is 0. The student, indifferent, is to be ½ sure of class 0,
    # and as class 2 is no less than class 0 nothing is left to compare.
    t, s = torch.tensor([[0.0, math.log(2), 0.0]]), torch.zeros(1, 3)
    want = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 3 / 2)
    assert rld_loss(s, t, torch.tensor([0])).item() == pytest.approx(want, rel=1e-6)


def test_where_the_label_is_the_teachers_least_class_only_the_binary_part_is_left():
    s, t = response.logits(4, 5).requires_grad_(), response.logits(4, 5, seed=1)
    rld_loss(s, t, t.argmin(1), alpha=0).backward()
    assert s.grad is not None
    assert (s.grad == 0).all()
    assert rld_loss(s, t, t.argmin(1), alpha=0).item() == 0


def test_classes_above_the_label_are_not_compared():
    t, y = torch.tensor([[4.0, 2.0, 1.0, 0.0]]), torch.tensor([1])
    s = torch.zeros(1, 4, requires_grad=True)
    rld_loss(s, t, y, alpha=0).backward()
    assert s.grad is not None
    assert (s.grad[0, :2] == 0).all()
    assert (s.grad[0, 2:] != 0).all()


def test_laws():
    s, t = response.logits(5, 7), response.logits(5, 7, seed=1)
    assert rld_loss(s, s, s.argmax(1)).item() == pytest.approx(0, abs=1e-12)
    assert rld_loss(s, t, t.argmax(1)).item() > 1e-3
    response.assert_blind_to_shifts(rld_loss)
    response.assert_teaches_the_student_alone(rld_loss)
    response.assert_survives_extremes(rld_loss)
    response.assert_weighs(lambda s, t, y, w: rld_loss(s, t, y, weight=w), rld_loss)


def test_the_term():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    term = RLD(alpha=2, beta=3, temperature=2, binary_temperature=1.5)
    assert response.of_term(term, s, t, y) == pytest.approx(derived(s, t, y, 2.0, 3.0, 2.0, 1.5))
    response.assert_only_right(RLD(only_right=True), rld_loss)
    assert (RLD().weight, RLD().warmup) == (1.0, 20.0)
    for name, make in (("alpha", lambda: RLD(alpha=-1)), ("beta", lambda: RLD(beta=-1))):
        with pytest.raises(UserError, match=rf"^The {name} of 'rld' is -1; expected a number ≥ 0\.$"):
            make()
    for make in (lambda: RLD(temperature=0), lambda: RLD(binary_temperature=0)):
        with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
            make()
