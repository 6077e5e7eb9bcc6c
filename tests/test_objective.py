"""What counts: a term's loss over the images that the teacher gets right."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from methods.maps import START
from torch import nn

from potstill import record
from potstill.errors import UserError
from potstill.methods import KD, Attention, Hint, Labels, kd_loss, label_loss
from potstill.objective import Objective, loss_of
from potstill.stage import Stage
from potstill.types import Batch, Trace

LABELS = torch.tensor([0, 1, 2, 0])
BATCH = Batch(torch.zeros(4, 1, 1, 1), LABELS, torch.arange(4), torch.zeros(4, dtype=torch.int64))


def answers(right: list[int]) -> Trace:
    """A teacher that gives the labels of these rows."""
    said = [int(label) if row in right else (int(label) + 1) % 3 for row, label in enumerate(LABELS)]
    return Trace(5 * nn.functional.one_hot(torch.tensor(said), 3).double(), {})


def student() -> Trace:
    drawn = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Trace(drawn.requires_grad_(), {})


@pytest.mark.parametrize("right", [[1, 3], [0, 2, 3], [0, 1, 2, 3]])
def test_the_sum_over_the_right_images_is_divided_by_all(right: list[int]):
    ours, theirs, share = student(), answers(right), len(right) / 4
    soft = loss_of(KD(temperature=2, only_right=True), BATCH, ours, theirs, None, START).item()
    assert soft == pytest.approx(share * kd_loss(ours.logits[right], theirs.logits[right], temperature=2).item())
    hard = loss_of(Labels(only_right=True), BATCH, ours, theirs, None, START).item()
    assert hard == pytest.approx(share * label_loss(ours.logits[right], LABELS[right]).item())
    assert loss_of(Labels(), BATCH, ours, None, None, START).item() == label_loss(ours.logits, LABELS).item()


@pytest.mark.parametrize("right", [[], [2]])
def test_fewer_than_two_right_images_count_nothing(right: list[int]):
    ours = student()
    loss = loss_of(KD(only_right=True), BATCH, ours, answers(right), None, START)
    loss.backward()
    assert loss == 0
    assert ours.logits.grad is not None
    assert not ours.logits.grad.any()


def test_labels_need_a_teacher_only_to_say_which_images_count():
    assert Labels(only_right=True).needs_teacher
    assert not Labels().needs_teacher
    sentence = r"^The term 'labels' compares with a teacher, but the run names none; give it a teacher\.$"
    with pytest.raises(UserError, match=sentence):
        loss_of(Labels(only_right=True), BATCH, student(), None, None, START)


def test_what_is_learned_is_left_alone_by_a_batch_that_counts_nothing():
    term = Hint(weight=1.0, student=("stage1",), teacher=("",), only_right=True)
    learned = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))]).double()
    ours = Trace(student().logits, {"stage1": torch.ones(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)})
    before = {name: value.clone() for name, value in learned.state_dict().items()}
    theirs = Trace(answers([1]).logits, {"": torch.zeros(4, 2, 2, 2, dtype=torch.float64)})
    loss_of(term, BATCH, ours, theirs, learned, START).backward()
    assert all(torch.equal(value, before[name]) for name, value in learned.state_dict().items())
    # A gradient of zero for all of it: fused SGD cannot have one later than the others.
    assert all(p.grad is not None and not p.grad.any() for p in learned.parameters())
    assert learned.training


def three_quarters_right() -> nn.Module:
    """A teacher that takes the last of four classes for the third."""
    network = tiny.linear_teacher()
    last = network[1]  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        last.weight.copy_(last.weight[[0, 1, 2, 2]])
    return network


def test_a_run_counts_what_its_teacher_gets_right(tmp_path: Path):
    def told(*, only_right: bool) -> float:
        stage = Stage(terms=(Labels(only_right=only_right),), epochs=1, optimizer=replace(tiny.SGD, learning_rate=1e-9))
        run = tiny.run(
            "run", teacher=tiny.teacher(three_quarters_right()), data=tiny.data(validation=0.0), stages=[stage]
        )
        return record.Record(tiny.train_in(tmp_path, [run])[0]).metrics[0]["train"]["loss"]

    # The untrained student knows nothing, so that every image costs about the same.
    assert told(only_right=True) == pytest.approx(0.75 * told(only_right=False), rel=0.1)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format], ids=["by pixel", "by channel"])
def test_gradients_of_taps_come_back_in_the_layout_of_the_taps(memory: torch.memory_format):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 5, 3))
    network.to(memory_format=memory)
    images = torch.randn(4, 3, 5, 5).contiguous(memory_format=memory)
    batch = BATCH._replace(inputs=images)
    theirs = Trace(torch.zeros(4, 3), {"1": torch.rand(4, 4, 5, 5)})
    term = Attention(student=("1",), teacher=("1",))
    seen: list[torch.Tensor] = []

    def one_tap(inputs: torch.Tensor, taps: tuple[str, ...]) -> Trace:
        maps = network[:2](inputs)
        maps.register_hook(seen.append)
        return Trace(network[2:](maps), {"1": maps})

    objective = Objective(network, nn.ModuleDict(), [term], one_tap)
    losses, _ = objective(batch, theirs, START)
    losses["attention"].backward()
    (found,) = seen
    assert found.is_contiguous(memory_format=memory)
    maps = network[:2](images).detach().requires_grad_()
    (wanted,) = torch.autograd.grad(term.loss(batch, Trace(images, {"1": maps}), theirs, None, START), maps)
    assert torch.equal(found, wanted)
