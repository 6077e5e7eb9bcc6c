import math

import pytest
import torch

from potstill.errors import UserError
from potstill.methods import KD, kd_loss
from potstill.term import Progress
from potstill.types import Batch, Trace

START = Progress(0, 0.0, 1)
TWO = torch.tensor([0, 1])
BATCH = Batch(torch.zeros(2, 1, 1, 1), TWO, TWO, torch.zeros(2, dtype=torch.int64))


def logits(n, k, seed=0, dtype=torch.float64):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(4).to(dtype)


def softened(row, temperature):
    weights = [math.exp(value / temperature) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def derived(student, teacher, temperature):
    """T² · (1/N) Σ_n Σ_k p_t · (log p_t − log p_s), straight from the paper's section 2, in float64."""
    total = 0.0
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        for p_s, p_t in zip(softened(s, temperature), softened(t, temperature), strict=True):
            total += p_t * (math.log(p_t) - math.log(p_s))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 20.0])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (4, 3), (7, 10), (3, 100)])
def test_the_loss_is_the_softened_divergence(n, k, temperature):
    s, t = logits(n, k), logits(n, k, seed=1)
    want = derived(s, t, temperature)
    assert kd_loss(s, t, temperature=temperature).item() == pytest.approx(want, rel=1e-9)
    assert kd_loss(s.float(), t.float(), temperature=temperature).item() == pytest.approx(want, rel=1e-4)


def test_two_images_of_two_classes_by_hand():
    # At T = 2 the first image's teacher says (¾, ¼) and its student (½, ½); the second image's agree.
    teacher = torch.tensor([[2 * math.log(3), 0.0], [1.0, 5.0]], dtype=torch.float64)
    student = torch.tensor([[3.0, 3.0], [1.0, 5.0]], dtype=torch.float64)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kd_loss(student, teacher, temperature=2).item() == pytest.approx(4 * divergence / 2, rel=1e-12)
    # KL has a direction: from the student's side it is ½·log(⅔) + ½·log 2.
    other = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert kd_loss(teacher, student, temperature=2).item() == pytest.approx(4 * other / 2, rel=1e-12)


def test_it_is_zero_where_they_agree_and_positive_elsewhere():
    z = logits(5, 7).requires_grad_()
    loss = kd_loss(z, z.detach(), temperature=3)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert z.grad is not None
    torch.testing.assert_close(z.grad, torch.zeros_like(z), rtol=0, atol=1e-15)
    for seed in range(1, 6):
        assert kd_loss(z, logits(5, 7, seed), temperature=3).item() > 0.1


def test_shifts_of_either_sides_logits_change_nothing():
    s, t = logits(4, 5), logits(4, 5, seed=1)
    want = kd_loss(s, t, temperature=2).item()
    shift = torch.tensor([[9.0], [-40.0], [0.25], [300.0]], dtype=torch.float64)
    assert kd_loss(s + shift, t, temperature=2).item() == pytest.approx(want, rel=1e-10)
    assert kd_loss(s, t - shift, temperature=2).item() == pytest.approx(want, rel=1e-10)


def test_renamed_classes_and_a_doubled_batch_change_nothing():
    s, t = logits(4, 5), logits(4, 5, seed=1)
    want = kd_loss(s, t, temperature=2).item()
    order = [3, 0, 4, 1, 2]
    assert kd_loss(s[:, order], t[:, order], temperature=2).item() == pytest.approx(want, rel=1e-12)
    assert kd_loss(s.repeat(2, 1), t.repeat(2, 1), temperature=2).item() == pytest.approx(want, rel=1e-12)


def test_for_high_temperatures_it_is_the_squared_difference_of_centred_logits():
    s, t = logits(6, 8), logits(6, 8, seed=1)
    difference = (s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    limit = difference.square().sum(1).mean().item() / (2 * 8)
    losses = [kd_loss(s, t, temperature=temperature).item() for temperature in (1e2, 1e3, 1e4)]
    gaps = [abs(loss / limit - 1) for loss in losses]
    assert gaps[2] < 1e-3
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_is_that_of_finite_differences(temperature):
    s, t = logits(3, 4), logits(3, 4, seed=1)
    leaf = s.clone().requires_grad_()
    kd_loss(leaf, t, temperature=temperature).backward()
    assert leaf.grad is not None
    for i in range(3):
        for k in range(4):
            step = torch.zeros_like(s)
            step[i, k] = 1e-5
            slope = (derived(s + step, t, temperature) - derived(s - step, t, temperature)) / 2e-5
            assert leaf.grad[i, k].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_the_teacher_gets_no_gradient():
    s, t = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_()
    kd_loss(s, t, temperature=2).backward()
    assert s.grad is not None
    assert s.grad.abs().sum() > 0
    assert t.grad is None


def test_a_learned_temperature_gets_the_whole_gradient_through_its_square_too():
    s, t = logits(3, 4), logits(3, 4, seed=1)
    temperature = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    loss = kd_loss(s, t, temperature=temperature)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == pytest.approx(derived(s, t, 2.5), rel=1e-9)
    slope = (derived(s, t, 2.5 + 1e-5) - derived(s, t, 2.5 - 1e-5)) / 2e-5
    assert temperature.grad is not None
    assert temperature.grad.item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    s, t = logits(4, 100, dtype=dtype), logits(4, 100, seed=1, dtype=dtype)
    leaf = s.clone().requires_grad_()
    loss = kd_loss(leaf, t, temperature=4)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(derived(s, t, 4.0), rel=1e-4)
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_of_ten_thousand_give_finite_losses_and_gradients(dtype, temperature):
    extremes = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]], dtype=torch.float64).to(dtype)
    s, t = extremes.clone().requires_grad_(), extremes.roll(1, 0)
    loss = kd_loss(s, t, temperature=temperature)
    loss.backward()
    assert loss.isfinite()
    assert s.grad is not None
    assert s.grad.isfinite().all()


@pytest.mark.parametrize(("reduction", "share"), [("batchmean", 1.0), ("mean", 1 / 6)])
def test_the_term_computes_it_in_either_reduction(reduction, share):
    s, t = logits(2, 6), logits(2, 6, seed=1)
    term = KD(temperature=3, reduction=reduction, weight=5.0)
    loss = term.loss(BATCH, Trace(s, {}), Trace(t, {}), None, START)
    assert loss.item() == pytest.approx(share * derived(s, t, 3.0), rel=1e-9)  # The weight comes later.


def test_the_mean_reduction_is_that_of_pytorchs_default():
    s, t = logits(2, 6), logits(2, 6, seed=1)
    plain = torch.nn.functional.kl_div((s / 2).log_softmax(1), (t / 2).softmax(1), reduction="none").mean() * 4
    loss = KD(temperature=2, reduction="mean").loss(BATCH, Trace(s, {}), Trace(t, {}), None, START)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-9)


def test_the_term_says_when_its_teacher_is_missing():
    sentence = r"The term 'soft' compares with a teacher, but the run names none; give it a teacher\."
    assert KD().needs_teacher
    with pytest.raises(UserError, match=f"^{sentence}$"):
        KD(name="soft").loss(BATCH, Trace(logits(2, 3), {}), None, None, START)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0.0}, r"The temperature is 0; expected a number > 0, usually from 1 to 20\."),
        ({"temperature": -4.0}, r"The temperature is -4; expected a number > 0, usually from 1 to 20\."),
        ({"temperature": math.nan}, r"The temperature is nan; expected a number > 0, usually from 1 to 20\."),
        ({"temperature": math.inf}, r"The temperature is inf; expected a number > 0, usually from 1 to 20\."),
        ({"weight": -0.5}, r"The weight of 'kd' is -0\.5; expected a number ≥ 0\."),
        ({"weight": math.nan}, r"The weight of 'kd' is nan; expected a number ≥ 0\."),
        ({"warmup": math.inf}, r"The warm-up of 'kd' is inf epochs; expected a number ≥ 0\."),
    ],
)
def test_values_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        KD(**options)
