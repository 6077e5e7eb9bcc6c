"""Teachers that come about with the student: its average, its past."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from potstill.checkpoint import read_weights
from potstill.company import Company
from potstill.data import load
from potstill.machine import Machine
from potstill.methods import KD
from potstill.models import build
from potstill.teachers import EMA, OwnPast, Teacher
from potstill.teachers.average import Average
from potstill.teachers.past import Past
from potstill.types import Batch
from teachers.asked import first, result, taught


def test_the_average_follows_the_student_and_is_not_trained():
    torch.manual_seed(0)
    student = build(tiny.convolutional())
    average = Average(student, decay=0.9, classes=tiny.CLASSES)
    batch = first(load(tiny.data()))
    weights = [value for value in student.state_dict().values() if value.is_floating_point()]
    assert len(weights) > len(list(student.parameters())), "batch norm's statistics are among it"
    hand = [value.clone() for value in weights]
    for step in range(12):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter))
        student.train()(batch.inputs)
        average.advance(student, batch, torch.zeros(6, 4), step)
        decay = min(1 - 1 / (step + 2), 0.9)
        hand = [decay * own + (1 - decay) * now for own, now in zip(hand, weights, strict=True)]
        assert decay == (0.9 if step >= 8 else 1 - 1 / (step + 2))
    averaged = average.network.state_dict()
    torch.testing.assert_close([value for value in averaged.values() if value.is_floating_point()], hand)
    counted = [name for name, value in averaged.items() if not value.is_floating_point()]
    assert counted
    assert all(torch.equal(averaged[name], student.state_dict()[name]) for name in counted)
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    answer = average.answer(batch, ("stage1",))
    assert not answer.logits.requires_grad
    assert not average.network.training
    torch.testing.assert_close(answer.logits, average.network(batch.inputs))


def test_weights_that_two_layers_share_are_averaged_once():
    layer = nn.Linear(1, 1, bias=False)
    student = nn.Sequential(nn.Flatten(), layer, layer)
    average = Average(student, decay=0.5, classes=1)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(8)
    batch = Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1).long())
    average.advance(student, batch, torch.zeros(1, 1), 5)
    torch.testing.assert_close(next(average.network.parameters()), before + 4)


def test_the_past_is_the_label_and_then_what_was_said_last():
    past = Past(images=9, classes=3)
    batch = Batch(torch.zeros(3, 1, 1, 1), torch.tensor([2, 0, 1]), torch.tensor([7, 1, 4]), torch.zeros(3).long())
    assert past.answer(batch, ()).logits.softmax(1).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    said = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, -0.5], [9e4, -9e4, 0.0]])
    past.advance(nn.Identity(), batch, said, 0)
    turned = Batch(*(part.flip(0) for part in batch))
    told = past.answer(turned, ()).logits
    torch.testing.assert_close(told[1:], said.flip(0)[1:])
    assert told[0].tolist() == [65504, -65504, 0], "as far as half precision goes"
    assert past.seen.sum() == 3


def test_the_past_forgets_companions():
    past = Past(images=9, classes=4, accompanied=True)
    shown = Batch(
        torch.zeros(4, 1, 1, 1), torch.tensor([1, 0, 1, 1]), torch.tensor([7, 1, 7, 3]), torch.zeros(4).long()
    )
    said = torch.arange(16.0).reshape(4, 4)
    past.advance(nn.Identity(), shown, said, 0)
    told = past.answer(shown, ()).logits
    torch.testing.assert_close(told[:3], said[[0, 1, 0]])
    assert told[3].softmax(0).tolist() == [0, 1, 0, 0], "not drawn yet"
    run = taught(OwnPast(), KD())
    accompanied = replace(run, data=replace(run.data, companion="classmate"))
    for spec, remembered in ((run, 4), (accompanied, 2)):
        objective = Company(spec, load(spec.data), None, Machine()).objective(spec.stages[0], nn.ModuleDict())
        objective.advance(shown, said, 0)
        assert isinstance(objective.inside, Past)
        assert int(objective.inside.seen.sum()) == len({*shown.index[:remembered].tolist()})


@pytest.mark.parametrize("teacher", [EMA(), OwnPast()], ids=["average", "past"])
def test_an_inside_teacher_is_not_in_what_ships_and_passes_are_counted(teacher: Teacher, runs_dir: Path):
    found, folder = result(runs_dir, taught(teacher))
    plain = build(tiny.convolutional()).state_dict()
    assert read_weights(folder / "student.safetensors").keys() == plain.keys()
    assert found["forwards_per_step"] == (2 if isinstance(teacher, EMA) else 1)
    assert found["teacher"] is None
    assert found["teacher_accuracy"] is None
    assert found["agreement"] is None
    assert found["peer"] is None
