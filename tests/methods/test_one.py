import math
from dataclasses import replace

import pytest
import torch

from methods import peers, response
from methods.maps import plan
from potstill.errors import UserError
from potstill.methods.one import ONE, Gate, one_loss
from potstill.models import aliases
from potstill.optim import Optimizer
from potstill.stage import Stage
from potstill.taps import trace
from potstill.term import Progress
from potstill.types import Trace


def plain(s, t, y):
    return one_loss(s, t)


def derived(s, t, y, temperature=3.0):
    return temperature**2 * response.mean(
        [
            response.divergence(response.softmax(v, temperature), response.softmax(u, temperature))
            for u, v, _ in response.rows(s, t, y)
        ]
    )


def test_it_is_the_softened_divergence_from_the_other_answer():
    response.assert_derived(plain, derived)
    response.assert_derived(lambda s, t, y: one_loss(s, t, temperature=1), lambda s, t, y: derived(s, t, y, 1.0))


def test_by_hand():
    s, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    want = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert one_loss(s, t, temperature=2).item() == pytest.approx(want, rel=1e-9)


def test_laws():
    response.assert_least_at_equality(plain)
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_survives_extremes(plain)


def gate_of(term, own, teacher):
    part = term.build(own, teacher, plan())
    assert isinstance(part, Gate)
    with torch.no_grad():
        part.norm.weight.uniform_(0.5, 1.5)
        part.norm.bias.uniform_(-0.5, 0.5)
    return part.double()


def shares_by_hand(gate, features):
    """Linear, batch norm, ReLU, softmax."""
    scores = features @ gate.score.weight.T
    normal = (scores - scores.mean(0)) / (scores.var(0, unbiased=False) + 1e-5).sqrt()
    raised = (normal * gate.norm.weight + gate.norm.bias).clamp_min(0).exp()
    return raised / raised.sum(1, keepdim=True)


@pytest.mark.parametrize(("epoch", "share"), [(0.9, 0.0), (40.5, 0.5), (80.0, 1.0), (200.0, 1.0)])
def test_the_term_is_the_ensembles_entropy_and_the_ramp_of_the_divergence(epoch, share):
    torch.manual_seed(0)
    s, y = response.logits(6, 5), response.labels(6, 5)
    said = torch.stack([response.logits(6, 5, seed) for seed in (1, 2)])
    own = Trace(s, {"pooled": response.logits(6, 7, seed=4)})
    term, teacher = ONE(), peers.spoken(said)
    gate = gate_of(term, own, teacher)
    assert gate.score.weight.shape == (3, 7)
    found = term.loss(response.batch_of(y), own, teacher, gate, Progress(0, epoch, 300)).item()
    shares = shares_by_hand(gate, own.taps["pooled"])
    ensemble = sum(shares[:, place, None] * z for place, z in enumerate((s, *said)))
    entropy = response.mean([-math.log(response.softmax(u)[label]) for u, _, label in response.rows(ensemble, s, y)])  # pyright: ignore
    want = entropy + math.exp(-5 * (1 - share) ** 2) * derived(s, ensemble, y)
    assert found == pytest.approx(want, rel=1e-9)


def test_the_gate_reads_maps_too_and_keeps_float32_under_autocast():
    term = ONE(features="stage3")
    own = Trace(response.logits(4, 3, dtype=torch.float32), {"stage3": torch.randn(4, 6, 2, 2)})
    said = torch.stack([response.logits(4, 3, 1, dtype=torch.float32)])
    gate = term.build(own, peers.spoken(said), plan())
    assert term.student_taps == ("stage3",)
    # The same shares, whatever it reads: what is left is how the ensemble is added up.
    with torch.no_grad():
        gate.norm.weight.zero_()  # pyright: ignore
    y = torch.tensor([0, 1, 2, 0])
    plain = term.loss(response.batch_of(y), own, peers.spoken(said), gate, response.START)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = term.loss(response.batch_of(y), own, peers.spoken(said), gate, response.START)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


def test_each_of_two_learns_by_its_share_of_the_ensemble_and_from_it_as_a_fixed_target():
    objective, shown = peers.objective_of(ONE(temperature=2))
    networks = [objective.student, *objective.peers]
    seen = [trace(network, aliases=aliases(network))(shown.inputs, ("pooled",)) for network in networks]
    onehot = torch.nn.functional.one_hot(shown.labels, 4).double()
    objective(shown, None, Progress(0, 20.0, 300))[0]["one"].backward()
    for place, network in enumerate(networks):
        own, other = seen[place].logits, seen[1 - place].logits.detach()
        gate = objective.learned["one@1" if place else "one"]
        shares = shares_by_hand(gate, seen[place].taps["pooled"])
        g, z = shares.detach(), torch.stack([own.detach(), other])
        ensemble = g[:, :1] * z[0] + g[:, 1:] * z[1]
        wrong = (ensemble.softmax(1) - onehot) / len(onehot)
        soft = 2 * ((z[0] / 2).softmax(1) - (ensemble / 2).softmax(1)) / len(onehot)
        by_logits = g[:, :1] * wrong + math.exp(-5 * 0.75**2) * soft
        by_shares = torch.stack([(wrong * z[0]).sum(1), (wrong * z[1]).sum(1)], 1)
        moved = [*network.parameters(), *gate.parameters()]
        wanted = torch.autograd.grad([own, shares], moved, [by_logits, by_shares])
        for parameter, want in zip(moved, wanted, strict=True):
            torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-10)
        assert gate.score.weight.grad.abs().sum() > 0  # pyright: ignore


def test_one_of_the_two_ships_without_a_gate(tmp_path):
    peers.assert_one_ships(ONE(), tmp_path)


def test_what_does_not_fit_is_refused_with_a_sentence():
    peers.assert_refuses_one(ONE())
    with pytest.raises(UserError, match=r"^The ramp of 'one' is 0 epochs; expected a number > 0\.$"):
        ONE(ramp=0)
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        ONE(temperature=0)


def test_the_term_survives_extremes():
    term = ONE()

    def loss(s, t, y):
        own = Trace(s, {"pooled": s.float()})
        gate = term.build(own, peers.spoken(t[None]), plan())
        return term.loss(response.batch_of(y), own, peers.spoken(t[None]), gate, Progress(0, 80.0, 300))

    response.assert_survives_extremes(loss)


def test_in_a_shorter_stage_the_ramp_keeps_its_share():
    term = ONE(ramp=30, warmup=10)
    assert term.scaled(0.1) == replace(term, ramp=3, warmup=1)
    stage = Stage(terms=(term,), epochs=100, optimizer=Optimizer()).scaled(10)
    assert stage.terms == (term.scaled(0.1),)
