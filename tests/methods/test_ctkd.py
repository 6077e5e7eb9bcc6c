import math
from dataclasses import replace

import pytest
import torch

from methods import response
from potstill import objective
from potstill.errors import UserError
from potstill.methods import kd_loss
from potstill.methods.ctkd import CTKD, Theta, ctkd_temperature, reverse_gradient
from potstill.methods.standardize import standardize
from potstill.models import build
from potstill.models.network import Network
from potstill.optim import Optimizer
from potstill.stage import Stage
from potstill.term import Plan, Progress
from potstill.types import Trace


def learned(term):
    z = response.logits(2, 3)
    plan = Plan(build(Network("digits_mlp", 3, 1)), None, 2, 3, torch.tensor([0, 1, 2]), torch.arange(3))
    part = term.build(Trace(z, {}), Trace(z, {}), plan)
    assert isinstance(part, Theta)
    return part


def loss_of(term, part, s, t, y, epoch=0.0):
    return objective.loss_of(term, response.batch_of(y), Trace(s, {}), Trace(t, {}), part, Progress(0, epoch, 240))


def temperature_of(theta):
    return 1 + 20 / (1 + math.exp(-theta))


@pytest.mark.parametrize("theta", [-30.0, -2.0, 0.0, 1.0, 30.0])
def test_the_temperature_is_between_start_and_start_plus_span(theta):
    tensor = torch.tensor(theta, dtype=torch.float64)
    assert ctkd_temperature(tensor).item() == pytest.approx(temperature_of(theta), rel=1e-12)
    want = 0.5 + 3 / (1 + math.exp(-theta))
    assert ctkd_temperature(tensor, start=0.5, span=3).item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("theta", [1e4, -1e4])
def test_a_theta_without_measure_is_finite(theta):
    leaf = torch.tensor(theta, dtype=torch.bfloat16, requires_grad=True)
    temperature = ctkd_temperature(leaf)
    temperature.backward()
    assert temperature.item() == (21.0 if theta > 0 else 1.0)
    assert leaf.grad is not None
    assert leaf.grad.isfinite()


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_the_gradient_goes_back_times_minus_scale_and_values_stay(scale):
    x = response.logits(3, 4).requires_grad_()
    same = reverse_gradient(x, scale)
    assert torch.equal(same, x)
    (same**3).sum().backward()
    torch.testing.assert_close(x.grad, -scale * 3 * x.detach() ** 2)


def test_at_the_start_the_temperature_is_about_15_point_6():
    s, t, y = response.logits(4, 5), response.logits(4, 5, seed=1), response.labels(4, 5)
    part = learned(CTKD())
    assert dict(part.named_parameters()).keys() == {"theta"}
    want = kd_loss(s, t, temperature=temperature_of(1.0)).item()
    assert temperature_of(1.0) == pytest.approx(15.6, abs=0.03)
    assert loss_of(CTKD(), part, s, t, y).item() == pytest.approx(want, rel=1e-6)
    other = CTKD(start=2, span=6)
    want = kd_loss(s, t, temperature=2 + 6 / (1 + math.exp(-1))).item()
    assert loss_of(other, learned(other), s, t, y).item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("epoch", "share"), [(0.0, 0.1), (0.99, 0.1), (4.0, 0.5), (8.5, 0.9), (9.0, 1.0), (200.3, 1.0)]
)
def test_theta_climbs_the_loss_by_a_share_that_grows_over_ten_epochs(epoch, share):
    s, t, y = response.logits(4, 5).requires_grad_(), response.logits(4, 5, seed=1), response.labels(4, 5)
    part = learned(CTKD()).double()
    loss_of(CTKD(), part, s, t, y, epoch).backward()
    h = 1e-5
    slope = (
        kd_loss(s, t, temperature=temperature_of(1 + h)) - kd_loss(s, t, temperature=temperature_of(1 - h))
    ).item() / (2 * h)
    scale = 0.5 * (1 - math.cos(math.pi * share))
    assert part.theta.grad is not None
    assert part.theta.grad.item() == pytest.approx(-scale * slope, rel=1e-5)
    # The student descends, unreversed.
    leaf = s.detach().clone().requires_grad_()
    kd_loss(leaf, t, temperature=temperature_of(1.0)).backward()
    torch.testing.assert_close(s.grad, leaf.grad)


def test_laws():
    part = learned(CTKD())

    def loss(s, t, y):
        return loss_of(CTKD(), part, s, t, y)

    response.assert_least_at_equality(loss)
    response.assert_teaches_the_student_alone(loss)
    response.assert_survives_extremes(loss)
    assert part.theta.grad is not None
    assert part.theta.grad.isfinite()


def test_the_options_of_soft_targets():
    s, t, y = response.logits(4, 3), response.logits(4, 3, seed=1), response.logits(4, 3, seed=1).argmax(1)
    y[2:] = t[2:].argmin(1)
    temperature = temperature_of(1.0)
    term = CTKD(standardize=True)
    want = kd_loss(standardize(s), standardize(t), temperature=temperature).item()
    assert loss_of(term, learned(term), s, t, y).item() == pytest.approx(want, rel=1e-6)
    term = CTKD(only_right=True)
    want = kd_loss(s[:2], t[:2], temperature=temperature).item() / 2
    assert loss_of(term, learned(term), s, t, y).item() == pytest.approx(want, rel=1e-6)
    assert CTKD().weight == 0.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start": 0.0}, r"The least temperature of 'ctkd' is 0; expected a number > 0\."),
        ({"span": -1.0}, r"The span of 'ctkd' is -1; expected a number ≥ 0\."),
        ({"ramp": 0}, r"The ramp of 'ctkd' is 0 epochs; expected a number > 0\."),
    ],
)
def test_values_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        CTKD(**options)


def test_in_a_shorter_stage_the_ramp_keeps_its_share():
    term = CTKD(ramp=30, warmup=10)
    assert term.scaled(0.1) == replace(term, ramp=3, warmup=1)
    stage = Stage(terms=(term,), epochs=100, optimizer=Optimizer()).scaled(10)
    assert stage.terms == (term.scaled(0.1),)
