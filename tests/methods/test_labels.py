import math

import pytest
import torch

from potstill.codec import decode, encode
from potstill.errors import UserError
from potstill.methods import Labels, label_loss
from potstill.term import Progress, Term
from potstill.types import Batch, Trace

START = Progress(0, 0.0, 1)


def logits(n, k, seed=0, dtype=torch.float64):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(3).to(dtype)


def derived(z, targets, smoothing=0.0):
    """−(1/N) Σ_n Σ_k q_nk · log softmax(z_n)_k with q = (1 − ε)·target + ε/K, image by image in float64."""
    total = 0.0
    for row, target in zip(z.double().tolist(), targets, strict=True):
        classes = len(row)
        if isinstance(target, int):
            target = [float(k == target) for k in range(classes)]
        log_sum = math.log(math.fsum(math.exp(v) for v in row))
        for value, share in zip(row, target, strict=True):
            total -= ((1 - smoothing) * share + smoothing / classes) * (value - log_sum)
    return total / len(z)


def batch_of(labels):
    n = len(labels)
    return Batch(torch.zeros(n, 1, 1, 1), labels, torch.arange(n), torch.zeros(n, dtype=torch.int64))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (2, 2), (5, 3), (7, 10), (3, 100)])
def test_the_loss_is_the_mean_cross_entropy(n, k, smoothing):
    z = logits(n, k)
    labels = [i % k for i in range(n)]
    want = derived(z, labels, smoothing)
    assert label_loss(z, torch.tensor(labels), smoothing=smoothing).item() == pytest.approx(want, rel=1e-12)
    single = label_loss(z.float(), torch.tensor(labels), smoothing=smoothing)
    assert single.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_may_be_distributions(smoothing):
    z, q = logits(4, 6), logits(4, 6, seed=1).softmax(1)
    assert label_loss(z, q, smoothing=smoothing).item() == pytest.approx(derived(z, q.tolist(), smoothing), rel=1e-12)
    labels = torch.tensor([5, 0, 3, 3])
    one_hot = torch.nn.functional.one_hot(labels, 6).double()
    assert label_loss(z, one_hot).item() == pytest.approx(label_loss(z, labels).item(), rel=1e-12)


def test_two_images_of_two_classes_by_hand():
    # Odds of 3 to 1 for the right class, then of 1 to 1: −log ¾ and −log ½.
    z = torch.tensor([[math.log(3), 0.0], [2.0, 2.0]], dtype=torch.float64)
    loss = label_loss(z, torch.tensor([0, 1])).item()
    assert loss == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-12)
    # With ε = ½ the first image's target is (¾, ¼): ¾·log(4/3) + ¼·log 4.
    smoothed = label_loss(z, torch.tensor([0, 1]), smoothing=0.5).item()
    assert smoothed == pytest.approx((0.75 * math.log(4 / 3) + 0.25 * math.log(4) + math.log(2)) / 2, rel=1e-12)


def test_a_shift_of_all_logits_changes_nothing():
    z, labels = logits(5, 4), torch.tensor([0, 1, 2, 3, 0])
    shifted = z + torch.tensor([[7.0], [-3.0], [100.0], [0.5], [0.0]])
    assert label_loss(shifted, labels).item() == pytest.approx(label_loss(z, labels).item(), rel=1e-12)


def test_full_smoothing_is_least_for_equal_logits():
    labels = torch.tensor([0, 2])
    flat = label_loss(torch.zeros(2, 4, dtype=torch.float64), labels, smoothing=1.0).item()
    assert flat == pytest.approx(math.log(4), rel=1e-12)
    assert label_loss(logits(2, 4), labels, smoothing=1.0).item() > flat


def test_the_gradient_is_probabilities_minus_targets():
    z, labels = logits(3, 4).requires_grad_(), torch.tensor([1, 0, 3])
    label_loss(z, labels).backward()
    one_hot = torch.nn.functional.one_hot(labels, 4)
    torch.testing.assert_close(z.grad, (z.detach().softmax(1) - one_hot) / 3, rtol=1e-12, atol=1e-15)
    assert torch.autograd.gradcheck(lambda x: label_loss(x, labels, smoothing=0.2), (z,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_half_precision_and_of_ten_thousand_give_finite_losses_and_gradients(dtype):
    # The large ones: 20,000 from the label, and a tie of two.
    large = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]).to(dtype)
    for z, want in ((logits(2, 4, dtype=dtype), None), (large, (2e4 + math.log(2)) / 2)):
        z.requires_grad_()
        loss = label_loss(z, torch.arange(len(z)) + 1)
        loss.backward()
        assert loss.isfinite()
        assert z.grad is not None
        assert z.grad.isfinite().all()
        assert want is None or loss.item() == pytest.approx(want, rel=0.01)


def test_the_term_hands_its_smoothing_on_and_needs_no_teacher():
    z, labels = logits(4, 5), torch.tensor([4, 3, 2, 1])
    term = Labels(smoothing=0.25, weight=3.0)
    loss = term.loss(batch_of(labels), Trace(z, {}), None, None, START)
    assert loss.item() == pytest.approx(derived(z, labels.tolist(), 0.25), rel=1e-12)  # The weight comes later.
    assert not term.needs_teacher
    assert (term.key, Labels(name="hard").key) == ("labels", "hard")
    assert term.student_taps == term.teacher_taps == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"smoothing": 1.5}, r"Label smoothing is 1\.5; expected a number from 0 to 1\."),
        ({"smoothing": -0.1}, r"Label smoothing is -0\.1; expected a number from 0 to 1\."),
        (
            {"drawn_only": True, "only_right": True},
            r"The term 'labels' takes the first half of whole batches; leave only_right or drawn_only out\.",
        ),
        ({"smoothing": math.nan}, r"Label smoothing is nan; expected a number from 0 to 1\."),
        ({"weight": -1.0}, r"The weight of 'labels' is -1; expected a number ≥ 0\."),
        ({"weight": math.nan}, r"The weight of 'labels' is nan; expected a number ≥ 0\."),
        ({"weight": math.inf}, r"The weight of 'labels' is inf; expected a number ≥ 0\."),
        ({"warmup": -2.0, "name": "hard"}, r"The warm-up of 'hard' is -2 epochs; expected a number ≥ 0\."),
    ],
)
def test_values_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        Labels(**options)


def test_the_ends_of_the_ranges_are_allowed():
    assert Labels(smoothing=0, weight=0).weight == 0
    assert Labels(smoothing=1).smoothing == 1


@pytest.mark.parametrize(
    ("epoch", "share"), [(0.0, 0.25), (0.9, 0.25), (1.0, 0.5), (2.5, 0.75), (3.0, 1.0), (9.0, 1.0)]
)
def test_a_warm_up_raises_the_weight_epoch_by_epoch(epoch, share):
    assert Labels(weight=2.0, warmup=4.0).weight_at(Progress(0, epoch, 10)) == 2 * share
    assert Labels(weight=2.0).weight_at(Progress(0, epoch, 10)) == 2


def test_only_the_drawn_images_count_where_that_is_asked():
    z, labels = logits(6, 5).requires_grad_(), torch.tensor([4, 3, 2, 4, 3, 2])
    term = Labels(smoothing=0.25, drawn_only=True)
    loss = term.loss(batch_of(labels), Trace(z, {}), None, None, START)
    loss.backward()
    assert loss.item() == pytest.approx(derived(z.detach()[:3], [4, 3, 2], 0.25), rel=1e-12)
    assert z.grad is not None
    assert (z.grad[:3] != 0).all()
    assert not z.grad[3:].any()


def test_who_counts_is_recorded_only_where_it_differs_from_before():
    assert "drawn_only" not in encode(Labels())
    term = Labels(drawn_only=True)
    assert decode(Term, encode(term)) == term
