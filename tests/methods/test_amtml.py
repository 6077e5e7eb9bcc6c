import math

import pytest
import torch

from methods.maps import START, batch, plan
from methods.relations import points
from potstill.errors import UserError
from potstill.methods import AMTML, KD, Importance, average_loss, integrated_loss
from potstill.types import Trace


def softened(row, temperature):
    weights = [math.exp(value / temperature) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def logits(m, n, k):
    return points(n, k).mul(3), points(m, n, k, seed=1).mul(3)


def several(s, t, features):
    members = tuple(Trace(each, {}) for each in t)
    return Trace(s, {"stage3": features}), Trace(t.mean(0), {}, members)


@pytest.mark.parametrize(("m", "n", "k"), [(2, 1, 2), (3, 4, 5), (5, 3, 40)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_targets_are_averaged_before_they_are_compared(m, n, k, temperature):
    s, t = logits(m, n, k)
    w = points(m, n, seed=2).softmax(0)
    total = []
    for i in range(n):
        each = [softened(t[j, i].tolist(), temperature) for j in range(m)]
        target = [math.fsum(w[j, i].item() * each[j][c] for j in range(m)) for c in range(k)]
        answer = softened(s[i].tolist(), temperature)
        total += [q * math.log(q / p) for q, p in zip(target, answer, strict=True)]
    want = temperature**2 * math.fsum(total) / n
    assert integrated_loss(s, t, w, temperature=temperature).item() == pytest.approx(want, rel=1e-9)
    single = integrated_loss(s.float(), t.float(), w.float(), temperature=temperature)
    assert single.item() == pytest.approx(want, rel=1e-4)
    # Convexity: never more than the mean of the divergences themselves.
    equal = torch.full((m, n), 1 / m, dtype=torch.float64)
    assert integrated_loss(s, t, equal, temperature=temperature) <= average_loss(s, t, temperature=temperature) + 1e-12


def test_one_teacher_that_counts_alone_is_plain_distillation():
    s, t = logits(3, 4, 5)
    alone = torch.zeros(3, 4, dtype=torch.float64)
    alone[1] = 1
    want = KD(temperature=4.0).loss(batch(4), Trace(s, {}), Trace(t[1], {}), None, START)
    torch.testing.assert_close(integrated_loss(s, t, alone), want, rtol=1e-12, atol=0)


def test_gradients_reach_student_and_weights_and_no_teacher():
    s, t = (x.requires_grad_() for x in logits(3, 4, 5))
    w = points(3, 4, seed=2).softmax(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: integrated_loss(a, t, b, temperature=2.0), (s, w))
    integrated_loss(s, t, w).backward()
    assert t.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype):
    s = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    t = torch.tensor([[[-1e4, 1e4, 0.0]], [[0.0, 1e4, -1e4]]], dtype=dtype)
    w = torch.full((2, 1), 0.5, requires_grad=True)
    loss = integrated_loss(s, t, w)
    loss.backward()
    assert loss.isfinite()
    for x in (s, w):
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_the_importance_of_a_teacher_is_its_factor_times_features_scored():
    torch.manual_seed(3)
    learned = Importance(4, 3).double()
    features = points(5, 4)
    shares = learned(features)
    for i in range(5):
        scores = [
            math.fsum((features[i, d] * learned.factors[j, d] * learned.score[d]).item() for d in range(4))
            for j in range(3)
        ]
        assert shares[:, i].tolist() == pytest.approx(softened(scores, 1.0), rel=1e-9)


def test_the_term_reads_the_largest_of_each_channel_and_learns_who_counts():
    s, t = logits(3, 4, 5)
    maps = points(4, 6, 2, 2)
    student, teacher = several(s.requires_grad_(), t.requires_grad_(), maps)
    term = AMTML(temperature=2.0)
    learned = term.build(student, teacher, plan()).double()
    found = term.loss(batch(4), student, teacher, learned, START)
    want = integrated_loss(s, t, learned(maps.flatten(2).max(2).values), temperature=2.0)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=0)
    found.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learned.parameters())
    assert t.grad is None
    # Features that point one way, and one teacher far from the student: its share falls.
    shares = []
    for _ in range(60):
        weights = learned(torch.ones(4, 6, dtype=torch.float64))
        shares.append(weights[2].mean().item())
        far = torch.stack([s.detach(), s.detach(), -5 * s.detach()])
        loss = integrated_loss(s.detach(), far, weights)
        grads = torch.autograd.grad(loss, list(learned.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(learned.parameters(), grads, strict=True):
                parameter -= 0.5 * grad
    assert shares[-1] < 0.2 * shares[0]


def test_a_single_teacher_is_refused():
    s, t = logits(2, 2, 3)
    student, teacher = several(s, t[:1], points(2, 4))
    with pytest.raises(
        UserError, match=r"^The term 'amtml' weighs several teachers, but the run's teacher is a single"
    ):
        AMTML().build(student, teacher, plan())
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0"):
        AMTML(temperature=0.0)
