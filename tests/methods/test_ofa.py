import math

import pytest
import torch
from torch import nn

from methods import response
from potstill.errors import UserError
from potstill.methods.ofa import OFA, ofa_loss
from potstill.term import Plan
from potstill.types import Trace


def derived(s, t, y, eps=1.0, temperature=1.0, shipped=False):
    found = []
    for u, v, label in response.rows(s, t, y):
        p_s, p_t = response.softmax(u, temperature), response.softmax(v, temperature)
        target = [p**eps if shipped else p for p in p_t]
        target[label] = (1 + p_t[label]) ** eps - 1
        found.append(response.crossed(target, p_s))
    return response.mean(found)


@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize(("eps", "temperature"), [(1.0, 1.0), (1.5, 2.0), (0.0, 1.0)])
def test_it_is_the_enhanced_soft_cross_entropy(eps, temperature, shipped):
    response.assert_derived(
        lambda s, t, y: ofa_loss(s, t, y, eps=eps, temperature=temperature, shipped=shipped),
        lambda s, t, y: derived(s, t, y, eps, temperature, shipped),
    )


def test_by_hand():
    # The teacher says (½, ½) and the student (¾, ¼); at ε = 2 the label's ½ becomes 1.5² − 1.
    t, s = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    label, other = -math.log(0.75), -math.log(0.25)
    y = torch.tensor([0])
    assert ofa_loss(s, t, y).item() == pytest.approx(0.5 * label + 0.5 * other, rel=1e-9)
    assert ofa_loss(s, t, y, eps=2).item() == pytest.approx(1.25 * label + 0.5 * other, rel=1e-9)
    assert ofa_loss(s, t, y, eps=2, shipped=True).item() == pytest.approx(1.25 * label + 0.25 * other, rel=1e-9)


def test_at_eps_1_the_gradient_is_zero_where_both_agree_and_the_label_does_not_matter():
    s, y = response.logits(5, 7).requires_grad_(), response.labels(5, 7)
    loss = ofa_loss(s, s.detach(), y)
    loss.backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12
    assert ofa_loss(s, s.detach(), (y + 1) % 7).item() == pytest.approx(loss.item(), rel=1e-12)


def test_above_1_the_optimum_says_more_of_the_label_than_the_teacher():
    z, y = response.logits(5, 7).requires_grad_(), response.labels(5, 7)
    ofa_loss(z, z.detach(), y, eps=2).backward()
    assert z.grad is not None
    assert (z.grad[torch.arange(5), y] < 0).all()


def test_laws():
    response.assert_blind_to_shifts(ofa_loss)
    response.assert_teaches_the_student_alone(lambda s, t, y: ofa_loss(s, t, y, eps=1.5, temperature=2))
    response.assert_survives_extremes(lambda s, t, y: ofa_loss(s, t, y, eps=1.5))
    response.assert_survives_extremes(lambda s, t, y: ofa_loss(s, t, y, eps=0.5, shipped=True))
    response.assert_weighs(lambda s, t, y, w: ofa_loss(s, t, y, weight=w), ofa_loss)


MAPS = {"stage1": (8, 8, 8), "stage2": (16, 4, 4), "stage3": (32, 2, 2), "tokens": (17, 12), "pooled": (32,)}


def trace(seed, n=5, k=4):
    generator = torch.Generator().manual_seed(seed)
    taps = {name: torch.randn(n, *shape, generator=generator, requires_grad=True) for name, shape in MAPS.items()}
    return Trace(response.logits(n, k, seed, torch.float32).requires_grad_(), taps)


def built(term, seed=0):
    torch.manual_seed(seed)
    return term.build(
        trace(0, n=2), trace(1, n=2), Plan(nn.Identity(), None, 5, 4, torch.tensor([0, 1, 2, 3]), torch.arange(4))
    )


@pytest.mark.parametrize("student", [("stage1", "stage2", "stage3"), ("stage2",), ("tokens", "stage3")])
def test_every_tap_gets_an_exit_whose_loss_is_added(student):
    term = OFA(student=student, eps=1.5, temperature=2)
    assert term.student_taps == student
    exits = built(term)
    assert isinstance(exits, nn.ModuleList)
    s, t, y = trace(2), trace(3), response.labels(5, 4)
    loss = term.loss(response.batch_of(y), s, t, exits, response.START)
    loss.backward()
    for tap in student:
        gradient = s.taps[tap].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in exits.parameters())
    assert t.logits.grad is None
    maps = [s.taps[tap] if tap != "tokens" else s.taps[tap][:, 1:].mT.reshape(5, 12, 4, 4) for tap in student]
    heads = [s.logits, *(part(x) for part, x in zip(exits, maps, strict=True))]
    want = sum(ofa_loss(z, t.logits, y, eps=1.5, temperature=2).item() for z in heads)
    assert loss.item() == pytest.approx(want, rel=1e-5)


def test_exits_halve_the_map_once_for_each_later_tap():
    exits = built(OFA())
    assert isinstance(exits, nn.ModuleList)
    for part, (_, shape), halvings in zip(exits, MAPS.items(), (2, 1, 0), strict=False):
        sizes = []
        assert isinstance(part, nn.Sequential)
        part[-3].register_forward_hook(lambda _, x, __, sizes=sizes: sizes.append(x[0].shape[1:]))
        assert part(torch.zeros(2, *shape)).shape == (2, 4)
        assert sizes == [(shape[0] * 2**halvings, 2, 2)]
        depthwise = [layer for layer in part if isinstance(layer, nn.Conv2d) and layer.groups > 1]
        assert [layer.stride[0] for layer in depthwise] == [2, 1] * halvings


def test_exits_start_with_small_answers():
    exits = built(OFA(student=("stage1",)))
    assert isinstance(exits, nn.ModuleList)
    last = exits[0][-1]  # pyright: ignore
    assert not last.bias.any()
    assert last.weight.std().item() == pytest.approx(0.02, rel=0.5)


def test_without_taps_it_is_the_loss_of_the_logits():
    term = OFA(student=(), eps=2)
    assert built(term) is None
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.labels(4, 3)
    assert response.of_term(term, s, t, y) == pytest.approx(derived(s, t, y, 2.0))
    assert response.of_term(OFA(student=(), shipped=True, eps=2), s, t, y) == pytest.approx(
        derived(s, t, y, 2.0, shipped=True)
    )
    response.assert_only_right(OFA(student=(), only_right=True), ofa_loss)


def test_a_vector_is_refused_in_the_dry_run():
    sentence = r"The term 'ofa' compares maps, but the student's 'pooled' is of shape \(N, 32\); .*\."
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(OFA(student=("stage1", "pooled")))


def test_values_out_of_range_are_refused_with_a_sentence():
    with pytest.raises(UserError, match=r"^The eps of 'ofa' is -1; expected a number ≥ 0\.$"):
        OFA(eps=-1)
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0, usually from 1 to 20\.$"):
        OFA(temperature=0)
