import pytest
import torch

from methods import response
from potstill.methods import kd_loss
from potstill.methods.mutual import mutual_loss


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
