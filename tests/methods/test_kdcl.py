import inspect

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from methods import peers as company
from methods import response
from potstill.errors import UserError
from potstill.methods.kdcl import KDCL, kdcl_target
from potstill.types import Trace


def peers(m, n, k, dtype=torch.float64):
    """Networks that know something, each something else."""
    y = response.labels(n, k)
    known = torch.nn.functional.one_hot(y, k)
    return torch.stack([response.logits(n, k, seed) + (2 + seed / 2) * known for seed in range(m)]).to(dtype), y


def entropies(z, y):
    return [response.mean([-np.log(response.softmax(u)[i]) for u, i in zip(a, y.tolist(), strict=True)]) for a in z]


@pytest.mark.parametrize(("m", "n", "k"), [(2, 5, 3), (3, 8, 10), (1, 2, 2)])
def test_naive_takes_the_peer_that_is_best_on_the_batch(m, n, k):
    z, y = peers(m, n, k)
    assert torch.equal(kdcl_target(z, y), z[int(np.argmin(entropies(z.tolist(), y)))])
    assert torch.equal(kdcl_target(z, y, rule="naive"), kdcl_target(z, y))


@pytest.mark.parametrize(("m", "n", "k"), [(2, 5, 3), (3, 8, 10), (1, 2, 2)])
def test_minlogit_takes_the_least_margin_of_every_class(m, n, k):
    z, y = peers(m, n, k)
    want = [[min(z[i, j, c] - z[i, j, y[j]] for i in range(m)) for c in range(k)] for j in range(n)]
    torch.testing.assert_close(kdcl_target(z, y, rule="minlogit"), torch.tensor(want, dtype=torch.float64))
    # No peer is better: every margin is at least as low.
    assert entropies([kdcl_target(z, y, rule="minlogit").tolist()], y)[0] <= min(entropies(z.tolist(), y))


@pytest.mark.parametrize(("m", "n", "k"), [(2, 20, 5), (3, 30, 10), (4, 40, 4)])
def test_linear_takes_the_best_convex_combination(m, n, k):
    z, y = peers(m, n, k)
    u = z.numpy()

    def entropy(w):
        return entropies([np.einsum("m,mnk->nk", w, u).tolist()], y)[0]

    limits = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(
        entropy, np.full(m, 1 / m), bounds=[(0, 1)] * m, constraints=limits, method="SLSQP", options={"ftol": 1e-14}
    )
    found = kdcl_target(z, y, rule="linear")
    assert entropies([found.tolist()], y)[0] <= best.fun + 1e-9
    want = torch.from_numpy(np.einsum("m,mnk->nk", best.x, u))
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(kdcl_target(z.float(), y, rule="linear"), found.float(), rtol=1e-4, atol=1e-4)


def test_by_hand():
    z = torch.tensor([[[1.0, 0.0]], [[5.0, 1.0]]])
    y = torch.tensor([0])
    assert kdcl_target(z, y).tolist() == [[5.0, 1.0]]
    assert kdcl_target(z, y, rule="minlogit").tolist() == [[0.0, -4.0]]
    # The second peer dominates, so its weight is 1.
    assert kdcl_target(z, y, rule="linear")[0].tolist() == pytest.approx([5.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("rule", ["naive", "minlogit", "linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extremes_are_finite_and_no_gradient_passes(rule, dtype):
    values = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]])
    z = torch.stack([values, values.roll(1, 0), values.roll(2, 0)]).to(dtype).requires_grad_()
    found = kdcl_target(z, torch.tensor([0, 1, 2]), rule=rule)
    assert found.isfinite().all()
    assert found.dtype == torch.float32
    assert not found.requires_grad


def test_an_unknown_rule_is_refused():
    z, y = peers(2, 3, 3)
    with pytest.raises(UserError, match=r"^The rule is 'mean'; expected naive, minlogit, linear\.$"):
        inspect.unwrap(kdcl_target)(z, y, rule="mean")


def test_the_combination_is_not_rounded_under_autocast():
    z, y = peers(3, 8, 10, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = kdcl_target(z, y, rule="linear")
    assert torch.equal(found, kdcl_target(z, y, rule="linear"))


@pytest.mark.parametrize("rule", ["naive", "minlogit", "linear"])
@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_term_matches_the_target_of_all_itself_included(rule, best):
    z, y = peers(3, 6, 4)
    z = z + 0.7 * (torch.arange(3) == best)[:, None, None] * torch.nn.functional.one_hot(y, 4)
    student = Trace(z[0], {})
    target = kdcl_target(z, y, rule=rule)
    rows = response.rows(z[0], target, y)
    each = [response.divergence(response.softmax(v, 3), response.softmax(u, 3)) for u, v, _ in rows]
    term = KDCL(temperature=3, rule=rule)
    found = term.loss(response.batch_of(y), student, company.spoken(z[1:]), None, response.START).item()
    assert found == pytest.approx(9 * response.mean(each), rel=1e-9, abs=1e-12)


def test_each_of_two_learns_from_the_better_one():
    def slopes(own, other, onehot):
        def entropy(z):
            return -(onehot * z.log_softmax(1)).sum()

        target = own if entropy(own) < entropy(other) else other
        return 2 * ((own / 2).softmax(1) - (target / 2).softmax(1)) / len(own)

    company.assert_gradients(KDCL(temperature=2), slopes)


def test_each_of_two_learns_from_the_least_margins():
    def slopes(own, other, onehot):
        margins = [z - (z * onehot).sum(1, keepdim=True) for z in (own, other)]
        target = torch.minimum(*margins)
        return 2 * ((own / 2).softmax(1) - (target / 2).softmax(1)) / len(own)

    company.assert_gradients(KDCL(temperature=2, rule="minlogit"), slopes)


def test_one_of_the_two_ships(tmp_path):
    company.assert_one_ships(KDCL(temperature=2, rule="linear"), tmp_path)


def test_what_does_not_fit_is_refused_with_a_sentence():
    company.assert_refuses_one(KDCL(temperature=2))
    with pytest.raises(UserError, match=r"^The rule of 'kdcl' is 'mean'; expected naive, minlogit, linear\.$"):
        inspect.unwrap(KDCL.__init__)(KDCL.__new__(KDCL), temperature=2, rule="mean")
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        KDCL(temperature=0)


@pytest.mark.parametrize("peers", [2, 3, 8])
def test_peers_that_say_the_same_have_a_finite_target(peers: int):
    for seed in range(10):
        logits = torch.randn(1, 64, 10, generator=torch.Generator().manual_seed(seed)).repeat(peers, 1, 1)
        target = kdcl_target(logits, torch.arange(64) % 10, rule="linear")
        torch.testing.assert_close(target, logits[0])
        almost = logits + 1e-8 * torch.arange(peers)[:, None, None]
        assert kdcl_target(almost, torch.arange(64) % 10, rule="linear").isfinite().all()
