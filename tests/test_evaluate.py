import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.text import perplexity

from potstill.evaluate import accuracy, agreement, calibration_error, kl_to_teacher, measure, nll


def draw(n=400, k=7, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator) * scale, torch.randint(k, (n,), generator=generator)


def probabilities(logits):
    z = logits.double().numpy()
    weights = np.exp(z - z.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def calibration_gap(p, labels, bins):
    """Equation 3 of Guo et al. 2017, bin by bin: bins ((m−1)/M, m/M]."""
    confidence, right = p.max(1), p.argmax(1) == labels
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            total += inside.sum() / len(p) * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_accuracy_is_the_share_of_right_answers():
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert accuracy(logits, torch.tensor([1, 0, 0])) == pytest.approx(2 / 3)
    logits, labels = draw()
    assert accuracy(logits, labels) == pytest.approx((probabilities(logits).argmax(1) == labels.numpy()).mean())


def test_nll_is_the_mean_of_minus_the_log_probability_of_the_label():
    assert nll(torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]]), torch.tensor([1, 0])) == pytest.approx(
        (math.log(4) + math.log(2)) / 2, rel=1e-6
    )
    logits, labels = draw()
    want = -np.log(probabilities(logits)[np.arange(len(labels)), labels.numpy()]).mean()
    assert nll(logits, labels) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_nll_is_the_logarithm_of_torchmetrics_perplexity(seed):
    logits, labels = draw(seed=seed)
    theirs = perplexity(logits.double()[None], labels[None])
    assert nll(logits, labels) == pytest.approx(theirs.log().item(), rel=1e-6)


def test_nll_stays_finite_where_single_precision_ends():
    logits = torch.tensor([[1e4, -1e4], [200.0, 0.0]])
    assert nll(logits, torch.tensor([1, 1])) == pytest.approx((2e4 + 200) / 2, rel=1e-12)


@pytest.mark.parametrize("bins", [1, 5, 15])
@pytest.mark.parametrize("seed", range(4))
def test_the_calibration_error_is_that_of_the_paper_and_of_torchmetrics(seed, bins):
    logits, labels = draw(seed=seed)
    labels[::2] = logits.argmax(1)[::2]  # Half of them right, so that every bin has its gap.
    got = calibration_error(logits, labels, bins=bins)
    assert got == pytest.approx(calibration_gap(probabilities(logits), labels.numpy(), bins), rel=1e-9)
    theirs = multiclass_calibration_error(logits.softmax(1), labels, num_classes=7, n_bins=bins, norm="l1")
    assert got == pytest.approx(theirs.item(), abs=2e-6)  # Theirs is in float32.


def test_the_calibration_error_has_fifteen_bins():
    logits, labels = draw()
    unsure = logits.softmax(1).amax(1) < 0.7
    labels[unsure] = logits.argmax(1)[unsure]
    want = calibration_gap(probabilities(logits), labels.numpy(), 15)
    assert calibration_error(logits, labels) == pytest.approx(want, rel=1e-9)
    for bins in (10, 14, 16):
        assert calibration_error(logits, labels, bins=bins) != pytest.approx(want, rel=1e-3)


def test_a_confidence_on_the_edge_belongs_to_the_bin_below():
    # Sure by ½ and right; sure by ¾ and wrong. In two bins: (|1 − ½| + |0 − ¾|) / 2; in one they would offset: ⅛.
    logits, labels = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]]), torch.tensor([0, 1])
    assert calibration_error(logits, labels, bins=2) == pytest.approx(0.625, rel=1e-6)
    assert calibration_error(logits, labels, bins=1) == pytest.approx(0.125, rel=1e-6)


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not():
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]])
    assert calibration_error(logits, torch.tensor([0, 1])) == 0
    assert calibration_error(logits, torch.tensor([1, 2])) == 1


def test_agreement_looks_at_the_first_choice_only():
    student = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [9.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    teacher = torch.tensor([[9.0, 0.0, 8.0], [1.0, 0.0, 5.0], [0.0, 1.0, 0.0], [0.0, 5.0, 0.0]])
    assert agreement(student, teacher) == 0.75
    assert agreement(student, student) == 1


def test_kl_runs_from_the_teacher_to_the_student():
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_to_teacher(student, teacher) == pytest.approx(want, rel=1e-6)
    student, teacher = draw()[0], draw(seed=1)[0]
    p_s, p_t = probabilities(student), probabilities(teacher)
    assert kl_to_teacher(student, teacher) == pytest.approx((p_t * np.log(p_t / p_s)).sum(1).mean(), rel=1e-12)
    assert kl_to_teacher(teacher, student) != pytest.approx(kl_to_teacher(student, teacher), rel=1e-3)
    assert kl_to_teacher(student, student + 5) == pytest.approx(0, abs=1e-12)
    certain = torch.tensor([[1e4, -1e4]])
    assert kl_to_teacher(certain, certain) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_measure_has_the_name_that_a_result_uses(dtype):
    logits, labels = draw()
    logits, teacher = logits.to(dtype), draw(seed=1)[0].to(dtype)
    got = measure(logits, labels, teacher)
    assert got == {
        "test_accuracy": accuracy(logits, labels),
        "test_nll": nll(logits, labels),
        "ece": calibration_error(logits, labels),
        "agreement": agreement(logits, teacher),
        "kl_to_teacher": kl_to_teacher(logits, teacher),
    }
    assert all(type(value) is float for value in got.values())
    # Whatever the precision of the logits, what is computed from them is computed in float64.
    p_s, p_t = probabilities(logits), probabilities(teacher)
    assert got["kl_to_teacher"] == pytest.approx((p_t * np.log(p_t / p_s)).sum(1).mean(), rel=1e-9)


def test_without_a_teacher_there_is_no_fidelity():
    logits, labels = draw(n=20)
    got = measure(logits, labels, None)
    assert (got["agreement"], got["kl_to_teacher"]) == (None, None)
    assert got["test_accuracy"] == accuracy(logits, labels)
