import pytest
import torch

from methods import response
from potstill.errors import UserError
from potstill.methods.ddgsd import DDGSD, ddgsd_feature_loss, ddgsd_loss
from potstill.types import Trace


def plain(s, t, y):
    return ddgsd_loss(s, t, temperature=3)


def derived(s, t, y, temperature=3.0):
    pairs = [(response.softmax(u, temperature), response.softmax(v, temperature)) for u, v, _ in response.rows(s, t, y)]
    return temperature**2 * response.mean([response.divergence(q, p) + response.divergence(p, q) for p, q in pairs])


def test_it_is_the_divergence_both_ways():
    response.assert_derived(plain, derived)
    response.assert_derived(lambda s, t, y: ddgsd_loss(s, t, temperature=1), lambda s, t, y: derived(s, t, y, 1.0))


def test_each_view_learns_from_the_other_as_a_fixed_target():
    s, t = response.logits(3, 4).requires_grad_(), response.logits(3, 4, seed=1).requires_grad_()
    ddgsd_loss(s, t, temperature=2).backward()
    p, q = (s.detach() / 2).softmax(1), (t.detach() / 2).softmax(1)
    torch.testing.assert_close(s.grad, 2 * (p - q) / 3)
    torch.testing.assert_close(t.grad, 2 * (q - p) / 3)


def test_laws():
    response.assert_least_at_equality(plain)
    response.assert_blind_to_shifts(plain)
    response.assert_survives_extremes(plain)
    s, t = response.logits(4, 5), response.logits(4, 5, seed=1)
    assert ddgsd_loss(t, s, temperature=3).item() == pytest.approx(ddgsd_loss(s, t, temperature=3).item(), rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 3), (4, 6), (5, 3, 2, 2)])
def test_features_are_compared_by_their_means_over_the_batch(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    n = shape[0]
    columns = [zip(*x.flatten(1).tolist(), strict=True) for x in (a, b)]
    want = sum((sum(u) / n - sum(v) / n) ** 2 for u, v in zip(*columns, strict=True))
    found = ddgsd_feature_loss(a, b)
    found.backward()
    assert found.item() == pytest.approx(want, rel=1e-9)
    for x in (a, b):
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
    # Which images have which features is forgotten.
    assert ddgsd_feature_loss(a.flip(0), b).item() == pytest.approx(want, rel=1e-9)


def test_features_by_hand():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert ddgsd_feature_loss(a, b).item() == 5.0  # (2, 1) − (0, 2)


def test_large_half_precision_features_are_finite():
    big = torch.full((4, 512), 1e4).half()
    found = ddgsd_feature_loss(big, -big)
    assert found.item() == pytest.approx(512 * 4e8)


def shown(n=4):
    """A student's answers to two views of n images and, as leaves, two activations."""
    generator = torch.Generator().manual_seed(2)
    taps = {
        tap: torch.randn(2 * n, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for tap, shape in (("pooled", (6,)), ("stage1", (3, 2, 2)))
    }
    return Trace(torch.cat([response.logits(n, 5), response.logits(n, 5, seed=1)]).requires_grad_(), taps)


def of_term(term, trace):
    labels = response.labels(len(trace.logits), 5)
    return term.loss(response.batch_of(labels), trace, None, None, response.START)


@pytest.mark.parametrize("student", [("pooled",), ("pooled", "stage1"), ()])
def test_the_two_halves_of_a_batch_teach_each_other(student):
    trace = shown()
    loss = of_term(DDGSD(student=student, temperature=3, feature=0.5), trace)
    loss.backward()
    want = derived(trace.logits[:4], trace.logits[4:], response.labels(4, 5), 3.0)
    for tap in student:
        first, second = trace.taps[tap].detach().flatten(1).chunk(2)
        want += 0.5 * sum((u - v) ** 2 for u, v in zip(first.mean(0).tolist(), second.mean(0).tolist(), strict=True))
    assert loss.item() == pytest.approx(want, rel=1e-9)
    for x in (trace.logits, *(trace.taps[tap] for tap in student)):
        assert x.grad is not None
        assert all(half.abs().sum() > 0 for half in x.grad.chunk(2))


def test_usually_the_means_of_pooled_features_count_little():
    trace = shown()
    term = DDGSD()
    assert (term.companion, term.needs_teacher, term.student_taps) == ("view", False, ("pooled",))
    want = ddgsd_loss(*trace.logits.chunk(2), temperature=4)
    want = want + 5e-4 * ddgsd_feature_loss(*trace.taps["pooled"].chunk(2))
    assert of_term(term, trace).item() == pytest.approx(want.item(), rel=1e-12)


def test_options_that_do_not_fit_are_refused_with_a_sentence():
    with pytest.raises(UserError, match=r"^The temperature is -1; expected a number > 0, usually from 1 to 20\.$"):
        DDGSD(temperature=-1)
    with pytest.raises(UserError, match=r"^The feature of 'ddgsd' is -1; expected a number ≥ 0\.$"):
        DDGSD(feature=-1)
    with pytest.raises(UserError, match=r"^The term 'ddgsd' takes whole batches of pairs; leave only_right out\.$"):
        DDGSD(only_right=True)
