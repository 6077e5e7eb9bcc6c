import copy
import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.relations import misses_its_teacher, points, refuses_taps_that_do_not_pair, trace_of
from potstill.errors import UserError
from potstill.methods import crd
from potstill.methods.crd import CRD, contrast_loss, crd_loss
from potstill.term import Plan, Progress
from potstill.types import Batch


def unit(x):
    return F.normalize(x, dim=-1)


def derived(s, t, s_memory, t_memory, z_s, z_t, n, tau):
    """Equations 9 to 18 with P = exp(·/τ)/Z: each log of the two sums, image by image."""

    def contrast(anchors, memory, z):
        total, m = 0.0, memory.shape[1] - 1
        for anchor, others in zip(anchors.tolist(), memory.tolist(), strict=True):
            p = [math.exp(math.fsum(a * b for a, b in zip(anchor, row, strict=True)) / tau) / z for row in others]
            total += math.log(p[0] / (p[0] + m / n + 1e-7))
            total += math.fsum(math.log(m / n / (q + m / n + 1e-7)) for q in p[1:])
        return -total / len(anchors)

    return contrast(s, t_memory, z_s) + contrast(t, s_memory, z_t)


def loss_of(tensors, **options):
    s, t, s_memory, t_memory = tensors
    return crd_loss(s, t, s_memory, t_memory, **options)


def example(images=5, m=7, d=4, dtype=torch.float64):
    sides = [unit(points(images, d, seed=k)).to(dtype) for k in (0, 1)]
    return *sides, *(unit(points(images, 1 + m, d, seed=k)).to(dtype) for k in (2, 3))


@pytest.mark.parametrize(("images", "m", "d"), [(1, 1, 1), (5, 7, 4), (3, 60, 16)])
@pytest.mark.parametrize(("n", "tau"), [(100, 0.07), (50000, 0.5)])
def test_the_loss_is_that_of_the_paper(images, m, d, n, tau):
    tensors = example(images, m, d)
    s, t, s_memory, t_memory = tensors
    want = derived(s, t, s_memory, t_memory, 3e4, 7e5, n, tau)
    options = {"z_student": 3e4, "z_teacher": 7e5, "population": n, "temperature": tau}
    assert loss_of(tensors, **options).item() == pytest.approx(want, rel=1e-10)
    assert loss_of([x.float() for x in tensors], **options).item() == pytest.approx(want, rel=1e-5)
    kept = options | {"z_student": torch.tensor(3e4), "z_teacher": torch.tensor(7e5)}
    assert loss_of(tensors, **kept).item() == pytest.approx(want, rel=1e-6)


def test_one_negative_by_hand():
    # With Z = e^(1/τ) the positive has P = 1 and the negative, opposite, P = e^(−2/τ); m/n = ½.
    loss = contrast_loss(torch.tensor([[1.0, -1.0]], dtype=torch.float64), z=math.e, population=2, temperature=1.0)
    want = -math.log(1 / 1.5) - math.log(0.5 / (math.exp(-2) + 0.5))
    assert loss.item() == pytest.approx(want, rel=1e-6)


def test_gradients_reach_both_embeddings_and_no_memory():
    tensors = example(3, 4, 3)
    options = {"z_student": 40.0, "z_teacher": 30.0, "population": 50, "temperature": 0.5}
    s, t, *memories = [x.clone().requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda a, b: crd_loss(a, b, *tensors[2:], **options), (s, t))
    crd_loss(s, t, *memories, **options).backward()
    for x in (s, t):
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
    assert all(memory.grad is None for memory in memories)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e4, -1e4])
def test_nothing_overflows(dtype, scale):
    s, t, *memories = example(dtype=dtype)
    s, t = (scale * s).requires_grad_(), (scale * t).requires_grad_()
    loss = crd_loss(s, t, *memories, z_student=1e5, z_teacher=1e5, population=1000)
    loss.backward()
    assert loss.dtype == torch.float32
    for x in (loss, s.grad, t.grad):
        assert x is not None
        assert x.isfinite().all()


class Indexed(NamedTuple):
    """A training split of 40 of 60 published images, in three unequal classes."""

    labels: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]


def split():
    index = torch.arange(60)[torch.arange(60) % 3 != 1]
    labels = torch.tensor([0] * 5 + [1] * 20 + [2] * 15)[torch.randperm(40, generator=torch.Generator().manual_seed(3))]
    return Indexed(labels, index)


def started(term, seed=0, widths=(6, 5)):
    torch.manual_seed(seed)
    traces = [trace_of(pooled=torch.zeros(2, width)) for width in widths]
    return term.build(*traces, Plan(nn.Identity(), None, 4, 3, split().labels, split().index))


def drawn(step, images=4):
    part = split()
    rows = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(step))[:images]
    zeros = torch.zeros(images, dtype=torch.int64)
    batch = Batch(torch.zeros(images, 1, 1, 1), part.labels[rows], part.index[rows], zeros)
    s, t = points(images, 6, seed=step, dtype=torch.float32), points(images, 5, seed=step + 50, dtype=torch.float32)
    return rows, batch, s.requires_grad_(), t


def ask(term, learned, step, batch, s, t):
    return term.loss(batch, trace_of(pooled=s), trace_of(pooled=t), learned, Progress(step, 0.0, 1))


SMALL = CRD(width=4, negatives=9, temperature=0.5, momentum=0.5)


@pytest.mark.parametrize("at_once", [1, 80, 2**24])
def test_the_term_is_the_loss_against_its_banks_which_then_remember(monkeypatch, at_once):
    monkeypatch.setattr(crd, "AT_ONCE", at_once)  # In chunks of one image, of two, and all at once.
    learned = started(SMALL)
    memory = learned[0]
    constants = None
    for step in range(3):
        rows, batch, s, t = drawn(step)
        ours, theirs = (part(x).detach() for part, x in ((memory.student, s), (memory.teacher, t)))
        banks = memory.student_bank.clone(), memory.teacher_bank.clone()
        index = torch.cat([rows.unsqueeze(1), memory.negatives(batch.labels, *memory._draw(4, rows.device, step))], 1)
        remembered = [bank[index] for bank in banks]
        if constants is None:  # Z is set in the first batch.
            pairs = ((ours, remembered[1]), (theirs, remembered[0]))
            constants = [torch.einsum("nd,nmd->nm", x, y).div(0.5).exp().mean().item() * 40 for x, y in pairs]
        x, y, x_memory, y_memory = (side.double() for side in (ours, theirs, *remembered))
        want = derived(x, y, x_memory, y_memory, constants[0], constants[1], 40, 0.5)
        loss = ask(SMALL, learned, step, batch, s, t)
        assert loss.item() == pytest.approx(want, rel=1e-5)
        for bank, before, new in zip((memory.student_bank, memory.teacher_bank), banks, (ours, theirs), strict=True):
            torch.testing.assert_close(bank[rows], unit((before[rows] + new) / 2))
            others = torch.ones(40, dtype=torch.bool)
            others[rows] = False
            assert torch.equal(bank[others], before[others])
        learned.zero_grad()
        loss.backward()  # After the banks have moved: the way back needs them as they were.
        for x in (s, *learned.parameters()):
            assert x.grad is not None
            assert x.grad.abs().sum() > 0
    assert memory.z.tolist() == pytest.approx(constants, rel=1e-5)


def test_the_gradient_is_that_of_gathered_memories():
    learned = started(SMALL)
    memory = learned[0]
    rows, batch, s, t = drawn(0)
    index = torch.cat([rows.unsqueeze(1), memory.negatives(batch.labels, *memory._draw(4, rows.device, 0))], 1)
    remembered = [bank[index] for bank in (memory.student_bank, memory.teacher_bank)]
    ask(SMALL, learned, 0, batch, s, t).backward()
    assert s.grad is not None
    found = s.grad.clone()
    s.grad = None
    z = {"z_student": memory.z[0], "z_teacher": memory.z[1]}
    sides = memory.student(s), memory.teacher(t)
    crd_loss(*sides, *remembered, **z, population=40, temperature=0.5).backward()
    torch.testing.assert_close(found, s.grad, rtol=1e-4, atol=1e-6)


def test_negatives_are_of_other_classes_each_once_and_each_as_likely():
    memory = started(SMALL)[0]
    part = split()
    labels = torch.tensor([0, 1, 2]).repeat(20000)
    rows = memory.negatives(labels, *memory._draw(len(labels), labels.device, 5)[:2])
    assert (part.labels[rows] != labels.unsqueeze(1)).all()
    assert (rows.sort(1).values.diff(dim=1) > 0).all()
    for label, others in enumerate((35, 20, 25)):
        counts = rows[labels == label].flatten().bincount(minlength=40)
        assert (counts[part.labels == label] == 0).all()
        expected = 20000 * 9 / others
        assert (counts[part.labels != label] - expected).abs().max() < 5 * expected**0.5
    # More than there are: each as often as the next, one more or less.
    rows = memory.negatives(labels[:3], torch.rand(3, 100), torch.rand(3, 1))
    counts = rows[1].bincount(minlength=40)[part.labels != 1]
    assert counts.min() >= 5
    assert counts.max() <= 5


def test_negatives_follow_from_seed_and_step_alone():
    rows, batch, _, _ = drawn(0)
    device = rows.device

    def of(memory, step):
        torch.rand(3)  # What else was drawn does not matter.
        return memory.negatives(batch.labels, *memory._draw(4, device, step))

    first, again, other = started(SMALL)[0], started(SMALL)[0], started(SMALL, seed=1)[0]
    assert torch.equal(of(first, 7), of(again, 7))
    assert not torch.equal(of(first, 7), of(first, 8))
    assert not torch.equal(of(first, 7), of(other, 7))


def test_validation_remembers_nothing_and_needs_no_row():
    learned = started(SMALL)
    ask(SMALL, learned, 0, *drawn(0)[1:])
    before = copy.deepcopy(learned.state_dict())
    learned.eval()
    _, batch, s, t = drawn(1)
    unseen = batch._replace(index=torch.tensor([1, 4, 7, 10]))  # Held out from the training split.
    first = ask(SMALL, learned, 1, unseen, s, t)
    assert first.isfinite()
    assert ask(SMALL, learned, 1, unseen, s, t).item() == first.item()
    assert all(torch.equal(value, before[name]) for name, value in learned.state_dict().items())


def test_a_resumed_training_is_the_same_bit_for_bit():
    whole, first = started(SMALL), started(SMALL)
    losses = [ask(SMALL, whole, step, *drawn(step)[1:]).item() for step in range(4)]
    for step in range(2):
        ask(SMALL, first, step, *drawn(step)[1:])
    second = started(SMALL)
    assert set(first.state_dict()) == {
        *(f"0.{side}.1.{kind}" for side in ("student", "teacher") for kind in ("weight", "bias")),
        *("0.student_bank", "0.teacher_bank", "0.z"),
    }
    second.load_state_dict(first.state_dict())
    assert [ask(SMALL, second, step, *drawn(step)[1:]).item() for step in (2, 3)] == losses[2:]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in second.state_dict().items())


def test_banks_begin_as_the_authors():
    bank = started(CRD(width=48))[0].student_bank
    assert bank.shape == (40, 48)
    assert 0.24 < bank.abs().max() <= 0.25  # √(3/48).


def test_the_terms_defaults_and_refusals():
    term = CRD()
    assert (term.weight, term.width, term.negatives, term.temperature, term.momentum) == (0.8, 128, 16384, 0.07, 0.5)
    assert (term.student_taps, term.teacher_taps) == (("pooled",), ("pooled",))
    refuses_taps_that_do_not_pair(CRD)
    misses_its_teacher(term, nn.ModuleList())
    refused: list[tuple[dict[str, Any], str]] = [
        ({"width": 0}, r"The width of 'crd' is 0; expected a whole number ≥ 1\."),
        ({"negatives": 0}, r"The number of negatives of 'crd' is 0; expected a whole number ≥ 1\."),
        ({"temperature": 0.0}, r"The temperature of 'crd' is 0; expected a number > 0, as 0\.07\."),
        ({"momentum": 1.0}, r"The momentum of 'crd' is 1; expected a number from 0 to below 1\."),
    ]
    for options, sentence in refused:
        with pytest.raises(UserError, match=f"^{sentence}$"):
            CRD(**options)
    alike = Plan(nn.Identity(), None, 4, 3, torch.ones(40, dtype=torch.int64), split().index)
    traced = trace_of(pooled=torch.zeros(2, 3))
    with pytest.raises(UserError, match=r"^The term 'crd' contrasts images of unlike classes, but all .* of class 1; "):
        term.build(traced, traced, alike)


def test_a_half_precision_region_changes_digits_and_nothing_else():
    learned = started(SMALL)
    _, batch, s, t = drawn(0)
    want = ask(SMALL, copy.deepcopy(learned), 0, batch, s, t).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ask(SMALL, learned, 0, batch, s.bfloat16(), t.bfloat16())
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(want, rel=0.02)
    assert learned[0].student_bank.dtype == torch.float32
    assert s.grad is not None
    assert s.grad.isfinite().all()
