import inspect
import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from potstill.errors import UserError
from potstill.optim import Constant, Cosine, MultiStep, OneCycle, Optimizer, Schedule, Step, Warmup


def parameters():
    return [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(2))]


def torchs(scheduler, epochs, learning_rate=1.0):
    """The learning rate in each epoch as PyTorch's own scheduler has it."""
    optimizer = torch.optim.SGD(parameters(), lr=learning_rate)
    schedule = scheduler(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def ours(schedule: Schedule, epochs, length=None):
    return [schedule.factor(float(epoch), length or epochs) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("schedule", "scheduler"),
    [
        (Step(every=1, gamma=0.7), lambda o: lr_scheduler.StepLR(o, 1, 0.7)),
        (Step(every=3), lambda o: lr_scheduler.StepLR(o, 3)),
        (Step(every=30, gamma=0.5), lambda o: lr_scheduler.StepLR(o, 30, 0.5)),
        (MultiStep(milestones=(150, 180, 210)), lambda o: lr_scheduler.MultiStepLR(o, [150, 180, 210])),
        (MultiStep(milestones=(5, 5, 8), gamma=0.3), lambda o: lr_scheduler.MultiStepLR(o, [5, 5, 8], 0.3)),
        (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, 240)),
        (Cosine(final=0.01), lambda o: lr_scheduler.CosineAnnealingLR(o, 240, eta_min=0.01)),
        (Constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    ],
)
def test_schedules_are_pytorchs_epoch_by_epoch(schedule, scheduler):
    assert ours(schedule, 240) == pytest.approx(torchs(scheduler, 240), rel=1e-9, abs=1e-12)


def test_one_cycle_is_pytorchs():
    # PyTorch counts steps from 0 to total − 1 and puts the peak at pct·total − 1: here at step 3 of 0…10.
    def scheduler(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=11, pct_start=4 / 11, cycle_momentum=False)

    rates = torchs(lambda optimizer: scheduler(optimizer), 10)
    assert ours(OneCycle(peak=0.3), 10) == pytest.approx(rates, rel=1e-9)
    assert OneCycle(peak=0.3).factor(3, 10) == 1
    assert OneCycle(peak=0.3).factor(10, 10) == pytest.approx(4e-6)
    assert OneCycle(peak=0.5, start=0.1, final=0.2).factor(0, 8) == pytest.approx(0.1)


@pytest.mark.parametrize("then", [Constant(), MultiStep(milestones=(4, 8)), Cosine(final=0.1)])
def test_a_warm_up_is_a_linear_rise_on_top_of_what_follows(then):
    rise = torchs(lambda o: lr_scheduler.LinearLR(o, start_factor=0.2, end_factor=1.0, total_iters=5), 12)
    want = [a * b for a, b in zip(rise, ours(then, 12), strict=True)]
    assert ours(Warmup(then=then, epochs=5, start=0.2), 12) == pytest.approx(want)
    assert Warmup(then=Constant()).factor(0.0, 10) == 0
    assert Warmup(then=Constant(), epochs=2).factor(0.5, 10) == 0.25


def test_factors_move_within_an_epoch_only_where_they_are_smooth():
    assert Step(every=2).factor(1.99, 10) == 1
    assert MultiStep(milestones=(2.5,)).factor(2.4, 10) == 1
    assert MultiStep(milestones=(2.5,)).factor(2.5, 10) == pytest.approx(0.1)
    assert Cosine().factor(2.5, 10) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert Cosine(final=0.5).factor(11.0, 10) == OneCycle(final=0.5).factor(11.0, 10) == 0.5


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(),
        Step(every=25, gamma=0.5),
        MultiStep(milestones=(25, 50, 75)),
        Cosine(final=0.1),
        OneCycle(),
        Warmup(then=MultiStep(milestones=(50,)), epochs=10),
    ],
)
@pytest.mark.parametrize("epochs", [4, 14, 28, 56, 300])
def test_a_scaled_schedule_keeps_its_shape(schedule, epochs):
    # At 14 and 28 of 100 epochs, 50 × 14/100 in floating point is a trifle more than 7, and the drop came a step late.
    scaled = schedule.scaled(epochs / 100)
    shares = [0.0, 0.1, 0.2, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9]
    want = [schedule.factor(100 * share, 100) for share in shares]
    places = [float(round(epochs * share, 9)) for share in shares]
    assert [scaled.factor(place, epochs) for place in places] == pytest.approx(want)


def test_lengths_in_epochs_scale_and_shares_stay():
    assert Step(every=30).scaled(0.1) == Step(every=3)
    assert MultiStep(milestones=(150, 180, 210)).scaled(0.1) == MultiStep(milestones=(15, 18, 21))
    assert Warmup(then=Step(every=4), epochs=10).scaled(0.5) == Warmup(then=Step(every=2), epochs=5)
    assert OneCycle(peak=0.4).scaled(0.1) == OneCycle(peak=0.4)
    assert Cosine(final=0.2).scaled(3) == Cosine(final=0.2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Step(every=0), r"The step schedule drops every 0 epochs; expected a number > 0\."),
        (lambda: Step(every=math.nan), r"The step schedule drops every nan epochs; expected a number > 0\."),
        (lambda: Warmup(then=Constant(), epochs=-1), r"The warm-up lasts -1 epochs; expected a number > 0\."),
        (
            lambda: OneCycle(peak=1),
            r"The peak of the one-cycle schedule is at 1; expected a share between 0 and 1\.",
        ),
        (lambda: Optimizer(learning_rate=0), r"The learning rate is 0; expected a number > 0\."),
        (lambda: Optimizer(learning_rate=math.nan), r"The learning rate is nan; expected a number > 0\."),
        (lambda: Optimizer(name="AdmW"), r"torch\.optim has no optimizer 'AdmW'; did you mean 'AdamW'\?"),
        (
            lambda: Optimizer(name="zzz"),
            r"torch\.optim has no optimizer 'zzz'; expected one of ASGD, Adadelta, .*, SparseAdam\.",
        ),
        (lambda: Optimizer(name="lr_scheduler"), r"torch\.optim has no optimizer 'lr_scheduler'; .*"),
        (
            lambda: Optimizer(options={"momentun": 0.9}),
            r"torch\.optim\.SGD has no option 'momentun'; did you mean 'momentum'\?",
        ),
        (
            lambda: Optimizer(name="Adadelta", options={"beta": 0.9}),
            r"torch\.optim\.Adadelta has no option 'beta'; it has rho, eps, weight_decay, .*\.",
        ),
        (
            lambda: Optimizer(name="LBFGS"),
            r"torch\.optim\.LBFGS cannot train here: it evaluates the loss several times a step; name another, .*\.",
        ),
        (
            lambda: Optimizer(name="SparseAdam"),
            r"torch\.optim\.SparseAdam cannot train here: it takes sparse gradients only; name another, SGD say\.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(make, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        make()


@pytest.mark.parametrize("options", [{"momentum": -1.0}, {"nesterov": True}, {"lr": 0.1}])
def test_options_that_the_optimizer_refuses_are_a_sentence(options):
    with pytest.raises(UserError, match=r"^torch\.optim\.SGD refused its options \{.*\}: .+\.$"):
        Optimizer(options=options).build(parameters())


NAMES = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"]


@pytest.mark.parametrize("name", [*NAMES, "SGD"])
def test_an_optimizer_by_name_is_pytorchs_with_its_options(name):
    optimizer = Optimizer(name=name, learning_rate=0.25, options={"maximize": True})
    built = optimizer.build(iter(parameters()))
    assert type(built) is getattr(torch.optim, name)
    assert built.defaults["lr"] == 0.25
    assert built.defaults["maximize"] is True
    assert [tuple(p.shape) for p in built.param_groups[0]["params"]] == [(3, 2), (2,)]
    before = [p.detach().clone() for p in built.param_groups[0]["params"]]
    for parameter in built.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built.step()
    assert all((p > b).all() for p, b in zip(built.param_groups[0]["params"], before, strict=True))


@pytest.mark.parametrize("name", [*NAMES, "SGD"])
def test_optimizers_are_fused_where_pytorch_offers_it(name):
    offered = "fused" in inspect.signature(getattr(torch.optim, name)).parameters
    assert offered == (name in {"Adagrad", "Adam", "AdamW", "SGD"})
    assert bool(Optimizer(name=name).build(parameters()).defaults.get("fused")) == offered


def test_what_the_user_says_about_kernels_holds():
    assert Optimizer(options={"fused": False}).build(parameters()).defaults["fused"] is False
    each = Optimizer(options={"foreach": True}).build(parameters())
    assert (each.defaults["foreach"], each.defaults["fused"]) == (True, None)


def test_parameters_that_no_kernel_fuses_are_stepped_one_by_one():
    odd = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    assert Optimizer(name="Adam").build([*parameters(), odd]).defaults["fused"] is False
