import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from methods.maps import START, batch, plan
from methods.relations import DTYPES, points
from potstill.errors import UserError
from potstill.methods import (
    AEKD,
    AVER,
    EBKD,
    KD,
    average_loss,
    camkd_feature_loss,
    confidence_weights,
    entropy_weights,
    gradient_weights,
    weighted_kd_loss,
)
from potstill.types import Trace

SIZES = [(2, 1, 2), (3, 4, 5), (5, 3, 40)]


def logits(m, n, k, dtype=torch.float64):
    return points(n, k).mul(3).to(dtype), points(m, n, k, seed=1).mul(3).to(dtype)


def softened(row, temperature):
    weights = [math.exp(value / temperature) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def divergence(s, t, temperature):
    """T² · KL of one image."""
    pairs = zip(softened(s.tolist(), temperature), softened(t.tolist(), temperature), strict=True)
    return temperature**2 * math.fsum(q * math.log(q / p) for p, q in pairs)


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergences_are_averaged_or_weighted(m, n, k, temperature):
    s, t = logits(m, n, k)
    each = [[divergence(s[i], t[j, i], temperature) for i in range(n)] for j in range(m)]
    want = math.fsum(itertools.chain(*each)) / (m * n)
    assert average_loss(s, t, temperature=temperature).item() == pytest.approx(want, rel=1e-9)
    assert average_loss(s.float(), t.float(), temperature=temperature).item() == pytest.approx(want, rel=1e-4)
    equal = torch.full((m,), 1 / m, dtype=torch.float64)
    assert weighted_kd_loss(s, t, equal, temperature=temperature).item() == pytest.approx(want, rel=1e-9)
    w = points(m, n, seed=2).abs()
    want = math.fsum(w[j, i].item() * each[j][i] for i in range(n) for j in range(m)) / n
    assert weighted_kd_loss(s, t, w, temperature=temperature).item() == pytest.approx(want, rel=1e-9)
    want = math.fsum(w[j, 0].item() * each[j][i] for i in range(n) for j in range(m)) / n
    assert weighted_kd_loss(s, t, w[:, 0], temperature=temperature).item() == pytest.approx(want, rel=1e-9)


def test_only_the_student_gets_a_gradient():
    s, t = (x.requires_grad_() for x in logits(3, 4, 5))
    w = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    (weighted_kd_loss(s, t, w) + average_loss(s, t)).backward()
    assert s.grad is not None
    assert s.grad.abs().sum() > 0
    assert t.grad is None
    assert w.grad is None
    labels = torch.tensor([0, 1, 2, 3])
    for weights in (entropy_weights(t), confidence_weights(t, labels), gradient_weights(s, t)):
        assert not weights.requires_grad


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_the_surer_a_teacher_the_more_it_counts(m, n, k):
    _, t = logits(m, n, k)
    for i in range(n):
        entropy = [-math.fsum(p * math.log(p) for p in softened(t[j, i].tolist(), 1.0)) for j in range(m)]
        want = [(1 - h / math.fsum(entropy)) / (m - 1) for h in entropy]
        assert entropy_weights(t)[:, i].tolist() == pytest.approx(want, rel=1e-9)
    assert entropy_weights(t).sum(0).tolist() == pytest.approx([1.0] * n)


def test_teachers_that_are_all_certain_count_alike():
    certain = torch.tensor([[[1e4, -1e4, 0.0]], [[0.0, 1e4, -1e4]], [[-1e4, 0.0, 1e4]]])
    assert entropy_weights(certain).flatten().tolist() == pytest.approx([1 / 3] * 3)
    # One of two is certain: the other, who has all of the entropy, counts nothing.
    half = torch.tensor([[[1e4, -1e4]], [[0.0, 0.0]]])
    assert entropy_weights(half).flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_the_righter_a_teacher_the_more_it_counts(m, n, k):
    _, t = logits(m, n, k)
    labels = torch.arange(n) % k
    for i in range(n):
        wrong = [-math.log(softened(t[j, i].tolist(), 1.0)[labels[i]]) for j in range(m)]
        want = [(1 - share) / (m - 1) for share in softened(wrong, 1.0)]
        assert confidence_weights(t, labels)[:, i].tolist() == pytest.approx(want, rel=1e-9)
    assert confidence_weights(t, labels).sum(0).tolist() == pytest.approx([1.0] * n)
    right, wrong = torch.tensor([[0.0, 0.0]]), torch.tensor([[-math.log(3), 0.0]])
    # Cross-entropies of log 2 and log 4: softmax gives ⅓ and ⅔ of them, what is left ⅔ and ⅓.
    found = confidence_weights(torch.stack([right, wrong]), torch.tensor([0]))
    assert found.flatten().tolist() == pytest.approx([2 / 3, 1 / 3], rel=1e-6)


@pytest.mark.parametrize(("m", "n", "k"), [*SIZES, (4, 6, 3), (6, 4, 10)])
@pytest.mark.parametrize("slack", [0.0, 0.15, 1.0])
def test_gradients_are_combined_to_the_shortest(m, n, k, slack):
    s, t = logits(m, n, k)
    bound = min(1.0, 1 / m + slack)
    found = gradient_weights(s, t, temperature=4.0, tolerance=bound).numpy()
    p_s = np.array([softened(row, 4.0) for row in s.tolist()])
    rows = np.array([4 * (p_s - [softened(row, 4.0) for row in each]).mean(0) for each in t.tolist()])
    start = np.full(m, 1 / m)
    gram = rows @ rows.T / np.trace(rows @ rows.T)
    solved = minimize(
        lambda w: w @ gram @ w,
        start,
        jac=lambda w: 2 * gram @ w,
        bounds=[(0, bound)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert found.sum() == pytest.approx(1, abs=1e-8)
    assert found.min() >= 0
    assert found.max() <= bound
    assert found @ gram @ found <= solved.fun + 1e-8
    if np.linalg.eigvalsh(gram)[0] > 1e-3:
        assert found == pytest.approx(solved.x, abs=1e-4)


def test_gradients_by_hand_and_ties():
    s = torch.zeros(1, 2, dtype=torch.float64)
    # p_s = ½; the teachers say ½ + a and ½ − b: their gradients are −a and b, and cancel at weights b : a.
    t = torch.tensor([[[math.log(3), 0.0]], [[0.0, math.log(9)]]], dtype=torch.float64)
    assert gradient_weights(s, t, temperature=1.0, tolerance=1.0).tolist() == pytest.approx([0.4 / 0.65, 0.25 / 0.65])
    assert gradient_weights(s, t, temperature=1.0).tolist() == pytest.approx([0.6, 0.4])
    twins = t[[0, 0, 1, 1]]
    want = [0.2 / 0.65, 0.2 / 0.65, 0.125 / 0.65, 0.125 / 0.65]
    assert gradient_weights(s, twins, temperature=1.0).tolist() == pytest.approx(want, abs=1e-5)
    assert gradient_weights(s, s.expand(3, 1, 2)).tolist() == pytest.approx([1 / 3] * 3)
    assert gradient_weights(s, t[:1], tolerance=1.0).tolist() == [1.0]


@pytest.mark.parametrize("shapes", [[(3, 2, 2, 2), (3, 4, 1, 1)], [(1, 5), (1, 5)]])
def test_features_count_by_what_the_teachers_classifier_makes_of_them(shapes):
    n, labels = shapes[0][0], torch.arange(shapes[0][0])
    ours = [points(*shape, seed=j).requires_grad_() for j, shape in enumerate(shapes)]
    theirs = [points(*shape, seed=9 + j).requires_grad_() for j, shape in enumerate(shapes)]
    said = points(2, n, 4, seed=5).requires_grad_()
    v = confidence_weights(said, labels).tolist()
    want = 0.0
    for j, (s, t) in enumerate(zip(ours, theirs, strict=True)):
        for i in range(n):
            squares = [(a - b) ** 2 for a, b in zip(s[i].flatten().tolist(), t[i].flatten().tolist(), strict=True)]
            want += v[j][i] * math.fsum(squares) / len(squares) / n
    loss = camkd_feature_loss(ours, theirs, said, labels)
    assert loss.item() == pytest.approx(want, rel=1e-9)
    loss.backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in ours)
    assert all(x.grad is None for x in (*theirs, said))


@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_is_finite_for_logits_of_ten_thousand(dtype):
    extremes = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]], dtype=torch.float64).to(dtype)
    s, t = extremes.clone().requires_grad_(), torch.stack([extremes.roll(1, 0), extremes.roll(2, 0), extremes])
    labels = torch.tensor([2, 0, 1])
    weights = [entropy_weights(t), confidence_weights(t, labels), gradient_weights(s, t)]
    for w in weights:
        assert w.isfinite().all()
        torch.testing.assert_close(w.sum(0), torch.ones_like(w.sum(0)))
    loss = average_loss(s, t) + sum(weighted_kd_loss(s, t, w) for w in weights)
    loss = loss + camkd_feature_loss(list(s.expand_as(t)), list(t), t, labels)
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert s.grad is not None
    assert s.grad.isfinite().all()


def test_what_cannot_be_weighed_is_refused():
    s, t = logits(2, 3, 4)
    labels = torch.tensor([0, 1, 2])
    for call in (lambda: entropy_weights(t[:1]), lambda: confidence_weights(t[:1], labels)):
        with pytest.raises(UserError, match=r"^There is 1 teacher; weights of teachers are for at least 2\.$"):
            call()
    with pytest.raises(UserError, match=r"^The tolerance is 0\.4; expected at least 1/2, one part for each teacher\.$"):
        gradient_weights(s, t, tolerance=0.4)
    with pytest.raises(UserError, match=r"^There are 9 teachers; gradients can be weighed for at most 8\.$"):
        gradient_weights(s, t[:1].expand(9, 3, 4))
    sentence = r"^The projected maps have shapes .*; expected one of each per teacher, in equal shapes\.$"
    with pytest.raises(UserError, match=sentence):
        camkd_feature_loss([s, s], [s, s[:, :2]], t, labels)


def several(s, t, only=None):
    """The student's trace, and that of some or all of the teachers as one."""
    members = tuple(Trace(each, {}) for each in (t if only is None else t[only]))
    return Trace(s, {}), Trace(torch.stack([member.logits for member in members]).mean(0), {}, members)


def test_the_better_a_teacher_knows_an_image_the_more_it_counts_for_it():
    _, t = logits(3, 40, 4)
    labels = torch.arange(40) % 4
    wrong = torch.stack([torch.nn.functional.cross_entropy(each, labels, reduction="none") for each in t])
    assert torch.equal(confidence_weights(t, labels).argsort(0), wrong.argsort(0, descending=True))
    entropy = torch.distributions.Categorical(logits=t).entropy()
    assert torch.equal(entropy_weights(t).argsort(0), entropy.argsort(0, descending=True))


def test_the_average_is_the_mean_of_what_each_teacher_alone_would_say():
    s, t = logits(3, 6, 5)
    found = AVER(temperature=2.0).loss(batch(6), *several(s, t), None, START)
    alone = [KD(temperature=2.0).loss(batch(6), Trace(s, {}), Trace(each, {}), None, START) for each in t]
    torch.testing.assert_close(found, torch.stack(alone).mean(), rtol=1e-12, atol=0)
    # Not what their mean logits would.
    student, teacher = several(s, t)
    assert found != pytest.approx(KD(temperature=2.0).loss(batch(6), student, teacher, None, START))


@pytest.mark.parametrize(("term", "factor"), [(AVER(), 1.0), (EBKD(), 2 / 3), (AEKD(tolerance=0.5), 1.0)])
def test_the_student_is_pulled_by_each_teacher_as_it_counts(term, factor):
    s, t = logits(3, 6, 5)
    s.requires_grad_()
    t.requires_grad_()
    weights = {
        "aver": torch.full((3, 1), 1 / 3, dtype=s.dtype),
        "ebkd": entropy_weights(t),
        "aekd": gradient_weights(s, t, tolerance=0.5).unsqueeze(1),
    }[term.key]
    assert weights.sum(0).tolist() == pytest.approx([1.0] * weights.shape[1])
    term.loss(batch(6), *several(s, t), None, START).backward()
    # T · (p_s − Σ w p_t), with weights that are numbers here.
    p_s, p_t = (s / 4).softmax(1), (t / 4).softmax(2)
    want = factor * 4 * (p_s - (weights.unsqueeze(2) * p_t).sum(0)) / 6
    torch.testing.assert_close(s.grad, want.detach(), rtol=1e-9, atol=1e-12)
    assert t.grad is None


def test_certain_teachers_leave_the_loss_finite():
    s = points(2, 3)
    certain = torch.tensor([[[1e4, -1e4, 0.0]] * 2, [[0.0, 1e4, -1e4]] * 2, [[-1e4, 0.0, 1e4]] * 2]).double()
    s.requires_grad_()
    found = EBKD().loss(batch(2), *several(s, certain), None, START)
    torch.testing.assert_close(found, average_loss(s, certain) * 2 / 3, rtol=1e-9, atol=0)
    found.backward()
    assert s.grad is not None
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("kind", [AVER, EBKD, AEKD])
def test_a_single_teacher_is_refused(kind):
    s, t = logits(2, 2, 3)
    term = kind(name="mine")
    sentence = (
        "The term 'mine' weighs several teachers, but the run's teacher is a single one; give it an Ensemble of at "
        "least two, or take KD()."
    )
    student, one = several(s, t, [0])
    assert kind.several
    for teacher in (one, one._replace(members=())):
        with pytest.raises(UserError) as told:
            term.build(student, teacher, plan())
        assert str(told.value) == sentence
    assert term.build(*several(s, t), plan()) is None


def test_options_of_terms_are_checked():
    s, t = logits(3, 2, 4)
    for tolerance in (0.0, 1.1, math.nan):
        with pytest.raises(UserError, match=r"^The tolerance of 'aekd' is .*; expected a share above 0, up to 1\.$"):
            AEKD(tolerance=tolerance)
    with pytest.raises(UserError, match=r"^The tolerance is 0\.3; expected at least 1/3, one part for each teacher\.$"):
        AEKD(tolerance=0.3).build(*several(s, t), plan())
    with pytest.raises(UserError, match=r"^There are 9 teachers; gradients can be weighed for at most 8\.$"):
        AEKD().build(*several(s, t[[0] * 9]), plan())
    for kind in (AVER, EBKD, AEKD):
        with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0"):
            kind(temperature=0.0)
