import math

import pytest
import torch
from torch import nn

from methods import maps, response
from potstill.errors import UserError
from potstill.methods.byot import BYOT, byot_feature_loss, byot_loss
from potstill.methods.labels import label_loss
from potstill.types import Trace


def derived(s, t, y, alpha=0.3, temperature=3.0):
    found = []
    for u, v, label in response.rows(s, t, y):
        soft = response.divergence(response.softmax(v, temperature), response.softmax(u, temperature))
        found.append((1 - alpha) * -math.log(response.softmax(u)[label]) + alpha * soft)
    return response.mean(found)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.3, 3.0), (1.0, 1.0), (0.0, 4.0)])
def test_it_is_labels_and_soft_targets_without_the_squared_temperature(alpha, temperature):
    response.assert_derived(
        lambda s, t, y: byot_loss(s, t, y, alpha=alpha, temperature=temperature),
        lambda s, t, y: derived(s, t, y, alpha, temperature),
    )


def test_by_hand():
    z = torch.zeros(1, 2)
    assert byot_loss(z, z, torch.tensor([0])).item() == pytest.approx(0.7 * math.log(2), rel=1e-6)


def test_laws():
    s, y = response.logits(4, 5), response.labels(4, 5)
    assert byot_loss(s, s, y).item() == pytest.approx(0.7 * label_loss(s, y).item(), rel=1e-12)
    response.assert_blind_to_shifts(byot_loss)
    response.assert_teaches_the_student_alone(byot_loss)
    response.assert_survives_extremes(byot_loss)


@pytest.mark.parametrize("shape", [(1, 3), (4, 6), (3, 2, 4, 4)])
def test_features_are_compared_by_one_norm_over_the_batch(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = byot_feature_loss(a, b)
    found.backward()
    assert found.item() == pytest.approx(math.hypot(*(a - b).flatten().tolist()), rel=1e-9)
    assert b.grad is None
    torch.testing.assert_close(a.grad, ((a - b) / found).detach())


def test_features_by_hand_twice_and_at_equality():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert byot_feature_loss(a, b).item() == pytest.approx(5.0)
    # Unsquared: a batch twice as large is √2 times as far.
    assert byot_feature_loss(a.repeat(2, 1), b.repeat(2, 1)).item() == pytest.approx(5 * math.sqrt(2))
    leaf = b.clone().requires_grad_()
    byot_feature_loss(leaf, b).backward()
    assert leaf.grad is not None
    assert (leaf.grad == 0).all()


def test_large_half_precision_features_are_finite():
    big = torch.full((8, 512), 1e4).half().requires_grad_()
    found = byot_feature_loss(big, -big)
    found.backward()
    assert found.item() == pytest.approx(2e4 * 64, rel=1e-5)
    assert big.grad is not None
    assert big.grad.isfinite().all()


SHAPES = {"stage1": (8, 8, 8), "stage2": (12, 4, 4), "tokens": (17, 6), "last": (10, 2, 2), "pooled": (20,)}


def shown(n=5, k=3):
    """A student's answers and, as leaves, its activations."""
    taps = {tap: maps.maps(n, *shape, seed=i).requires_grad_() for i, (tap, shape) in enumerate(SHAPES.items())}
    return Trace(response.logits(n, k).requires_grad_(), taps)


def built(term):
    torch.manual_seed(0)
    heads = maps.built(term, shown(n=2), shown(n=2))
    assert isinstance(heads, nn.ModuleList)
    return heads


def composed(term, heads, student, y):
    """The sum over heads, piece by piece."""
    total = 0.0
    for place, (head, tap) in enumerate(zip(heads, term.student, strict=True), start=1):
        x = student.taps[tap].detach()
        if tap == "tokens":
            x = x[:, 1:].mT.reshape(len(x), 6, 4, 4)
        features = head.trunk(x)
        total += derived(head.classifier(features), student.logits, y, term.alpha, term.temperature)
        if place < len(heads):
            adapted = features @ head.adaptor.weight.T + head.adaptor.bias
            target = student.taps[term.deepest].detach()
            target = target.mean((2, 3)) if target.dim() == 4 else target
            total += term.feature * math.hypot(*(adapted - target).flatten().tolist())
    return total


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"student": ("stage1", "tokens", "stage2"), "alpha": 0.6, "temperature": 2.0, "feature": 0.5},
        {"student": ("stage2",), "feature": 3.0},
        {"deepest": "last", "feature": 1.0},
    ],
)
def test_every_head_learns_from_labels_and_the_deepest_and_all_but_the_last_from_its_features(options):
    term = BYOT(**options)
    heads = built(term).eval()
    student, y = shown(), response.labels(5, 3)
    loss = term.loss(response.batch_of(y), student, None, heads, response.START)
    with torch.no_grad():
        assert loss.item() == pytest.approx(composed(term, heads, student, y), rel=1e-9)
    loss.backward()
    assert student.logits.grad is None
    assert student.taps[term.deepest].grad is None
    for tap in term.student:
        gradient = student.taps[tap].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    for name, parameter in heads.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_head_halves_its_map_down_to_the_deepest_resolution():
    heads = built(BYOT(student=("stage1", "stage2"))).eval()
    sizes = []
    for head, tap, want in zip(heads, ("stage1", "stage2"), ((32, 2, 2), (24, 2, 2)), strict=True):
        head.trunk[-2].register_forward_hook(lambda _, x, __: sizes.append(x[0].shape[1:]))  # pyright: ignore
        logits, adapted = head(maps.maps(5, *SHAPES[tap]))
        assert logits.shape == (5, 3)
        assert sizes.pop() == want
        assert (adapted is None) == (tap == "stage2")
        by_channel = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
        assert [layer.stride[0] for layer in by_channel] == [2, 1] * (2 if tap == "stage1" else 1)
    assert heads[0].adaptor.weight.shape == (20, 32)  # pyright: ignore


def test_the_term_is_its_own_teacher():
    term = BYOT()
    assert (term.needs_teacher, BYOT(only_right=True).needs_teacher, term.modes) == (False, True, ("self",))
    assert term.student_taps == ("stage1", "stage2", "pooled")
    assert (term.alpha, term.temperature, term.feature, term.weight) == (0.3, 3, 0.03, 1)


def test_a_vector_gets_no_head():
    sentence = r"The term 'byot' puts heads on maps, but the student's 'pooled' is of shape \(N, 20\); .*\."
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(BYOT(student=("stage1", "pooled")))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"student": ()}, r"The term 'byot' has no taps; give it at least one that gets a head\."),
        ({"alpha": 1.5}, r"The alpha of 'byot' is 1\.5; expected a number from 0 to 1\."),
        ({"alpha": -0.1}, r"The alpha of 'byot' is -0\.1; expected a number from 0 to 1\."),
        ({"feature": -1}, r"The feature of 'byot' is -1; expected a number ≥ 0\."),
        ({"temperature": 0}, r"The temperature is 0; expected a number > 0, usually from 1 to 20\."),
    ],
)
def test_values_out_of_range_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        BYOT(**options)
