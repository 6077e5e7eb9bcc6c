import pytest
import torch

from methods import peers, response
from potstill.errors import UserError
from potstill.methods import kd_loss
from potstill.methods.mutual import Mutual, mutual_loss
from potstill.objective import loss_of
from potstill.types import Trace


def plain(s, t, y):
    return mutual_loss(s, torch.stack([t, t.roll(1, 1)]), temperature=2)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("m", [1, 3])
def test_it_is_the_mean_of_the_peers_soft_targets(m, temperature):
    for n, k in response.SIZES:
        s, y = response.logits(n, k), response.labels(n, k)
        peers = torch.stack([response.logits(n, k, seed) for seed in range(1, m + 1)])
        each = [
            response.divergence(response.softmax(v, temperature), response.softmax(u, temperature))
            for peer in peers
            for u, v, _ in response.rows(s, peer, y)
        ]
        want = temperature**2 * response.mean(each)
        assert mutual_loss(s, peers, temperature=temperature).item() == pytest.approx(want, rel=1e-9)
        found = mutual_loss(s.bfloat16(), peers.bfloat16(), temperature=temperature)
        assert found.item() == pytest.approx(want, rel=0.1)


def test_of_one_peer_by_default_it_is_the_plain_divergence():
    s, t = response.logits(4, 5), response.logits(4, 5, seed=1)
    assert mutual_loss(s, t[None]).item() == pytest.approx(kd_loss(s, t, temperature=1).item(), rel=1e-12)


def test_laws():
    response.assert_least_at_equality(lambda s, t, y: mutual_loss(s, t[None]))
    response.assert_blind_to_shifts(plain)
    response.assert_teaches_the_student_alone(plain)
    response.assert_survives_extremes(plain)


def of_term(term, s, said, y):
    return loss_of(term, response.batch_of(y), Trace(s, {}), peers.spoken(said), None, response.START).item()


def derived(s, said, temperature):
    p, others = (s / temperature).softmax(1), (said / temperature).softmax(2)
    each = [(q * (q / p).log()).sum(1).mean().item() for q in others]
    return temperature**2 * sum(each) / len(each)


@pytest.mark.parametrize("m", [1, 3])
def test_the_term_compares_with_every_member(m):
    s, y = response.logits(6, 5), response.labels(6, 5)
    said = torch.stack([response.logits(6, 5, seed) for seed in range(1, m + 1)])
    assert of_term(Mutual(), s, said, y) == pytest.approx(derived(s, said, 1), rel=1e-9)
    assert of_term(Mutual(temperature=3), s, said, y) == pytest.approx(derived(s, said, 3), rel=1e-9)


def test_the_term_counts_where_the_members_mean_is_right():
    s, said = response.logits(4, 3), torch.stack([response.logits(4, 3, seed) for seed in (1, 2)])
    mean = said.mean(0)
    y = torch.cat([mean[:2].argmax(1), mean[2:].argmin(1)])
    want = derived(s[:2], said[:, :2], 1) / 2
    assert of_term(Mutual(only_right=True), s, said, y) == pytest.approx(want, rel=1e-9)


def test_each_of_two_learns_from_the_other_as_a_fixed_target():
    def slopes(own, other, onehot):
        return 2 * ((own / 2).softmax(1) - (other / 2).softmax(1)) / len(own)

    peers.assert_gradients(Mutual(temperature=2), slopes)


def test_one_of_the_two_ships(tmp_path):
    peers.assert_one_ships(Mutual(), tmp_path)


def test_who_speaks_alone_is_refused():
    peers.assert_refuses_one(Mutual())
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        Mutual(temperature=0)
