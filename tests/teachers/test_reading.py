"""Teachers that see images and name classes in their own way."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from potstill import record
from potstill.data import load
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import DKD, KD, SRRL, Labels, Logits
from potstill.models import Network, ReusedHead
from potstill.reading import NEVER, Reading
from potstill.teachers import Ensemble, Given, Shuffled
from potstill.teachers.source import Live
from teachers.asked import first, result, taught


def test_a_teacher_reads_images_as_it_learned_to():
    resident = replace(load(tiny.data()), mean=torch.full((3, 1, 1), 0.4), std=torch.full((3, 1, 1), 0.5))
    batch = first(resident)
    reading = Reading(mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7))
    source = Live(tiny.linear_teacher(), resident, Machine(), reading=reading)
    pixels = batch.inputs * 0.5 + 0.4
    own = (pixels - torch.tensor(reading.mean).view(3, 1, 1)) / torch.tensor(reading.std).view(3, 1, 1)
    torch.testing.assert_close(source(batch, resident.train).logits, tiny.linear_teacher()(own))


def test_a_teacher_sees_images_of_its_own_size():
    resident = load(tiny.data())
    batch = first(resident)
    large = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, tiny.CLASSES))
    source = Live(deepcopy(large), resident, Machine(), reading=Reading(size=16))
    assert source.look(()).logits.shape == (2, tiny.CLASSES)
    resized = nn.functional.interpolate(batch.inputs, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(source(batch, resident.train).logits, large(resized))


def test_a_teacher_of_a_fixed_size_teaches_and_is_counted_at_that_size(runs_dir: Path):
    small = tiny.linear_teacher().get_parameter("1.weight").detach().view(tiny.CLASSES, 3, 8, 8)
    layer = nn.Linear(3 * 16 * 16, tiny.CLASSES, bias=False)
    layer.weight = nn.Parameter(nn.functional.interpolate(small, (16, 16), mode="bilinear").flatten(1) / 4)
    large = nn.Sequential(nn.Flatten(), layer)
    _, folder = result(runs_dir, taught(Given(Network.given(large, tiny.CLASSES), Reading(size=16))))
    summary = record.read_json(folder / "summary.json")
    assert summary is not None
    assert summary["teacher"]["mult_adds"] == 3 * 16 * 16 * tiny.CLASSES


def test_classes_are_named_by_a_map_and_unknown_ones_are_never_meant(runs_dir: Path):
    resident = load(tiny.data())
    batch = first(resident)
    five = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    reading = Reading(classes=(4, -1, 0, 2), known=5)
    source = Live(deepcopy(five), resident, Machine(), reading=reading)
    answer, own = source(batch, resident.train).logits, five(batch.inputs)
    torch.testing.assert_close(answer[:, [0, 2, 3]], own[:, [4, 0, 2]])
    assert (answer[:, 1] == NEVER).all()
    assert (answer.softmax(1)[:, 1] == 0).all()
    with pytest.raises(UserError, match=r"^The teacher's classes map 4 classes but the data has 3 classes; name one"):
        Reading(classes=(4, -1, 0, 2), known=5).outputs(3)
    # The prototypes' teacher with its outputs in another order teaches as the other one does.
    turned = tiny.linear_teacher()
    with torch.no_grad():
        turned[1].weight.copy_(turned[1].weight.roll(1, 0))  # pyright: ignore[reportIndexIssue]
    mapped = Given(Network.given(turned, tiny.CLASSES), Reading(classes=(1, 2, 3, 0), known=4))
    assert mapped.identity() != Given(mapped.given).identity()
    weights = [
        (result(runs_dir / name, taught(teacher))[1] / "student.safetensors").read_bytes()
        for name, teacher in (("mapped", mapped), ("plain", tiny.teacher()))
    ]
    assert weights[0] == weights[1]


def test_terms_that_cannot_do_with_other_classes_say_so():
    turned, without = Reading(classes=(1, 2, 3, 0), known=4), Reading(classes=(1, -1, 3, 0), known=4)

    def reads(reading: Reading) -> Given:
        return replace(tiny.teacher(), reading=reading)

    order = "cannot learn from a teacher that names other classes than the data; leave the term out, or give it another"
    lack = "cannot learn from a teacher that lacks some of the data's classes; leave the term out, or give it another"
    for reading, term, sentence in (
        (turned, SRRL(), f"The term 'srrl' of 'taught' {order} teacher."),
        (without, KD(standardize=True), f"The term 'kd' of 'taught' {lack} teacher."),
        (without, Logits(), f"The term 'logits' of 'taught' {lack} teacher."),
    ):
        for teacher in (reads(reading), Shuffled(reads(reading)), Ensemble((reads(reading), reads(reading)))):
            with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
                taught(teacher, term)
    for reading, term in ((turned, KD(standardize=True)), (turned, Logits()), (without, KD()), (without, DKD())):
        assert taught(reads(reading), term).teacher == reads(reading)
    with pytest.raises(UserError, match=r"^The teachers of an ensemble lack different classes, so they have no mean; "):
        Ensemble((tiny.teacher(), reads(without)))
    with pytest.raises(
        UserError, match=r"takes over its teacher's classifier, which names other classes than the data"
    ):
        taught(reads(turned), Labels(), student=replace(tiny.convolutional(), reused=ReusedHead(student="stage2")))


def test_a_reading_that_says_another_number_of_outputs_is_told_of():
    resident = load(tiny.data())
    source = Live(tiny.linear_teacher(), resident, Machine(), reading=Reading(classes=(0, 1, 2, 3), known=12))
    words = r"^The teacher answers 4 classes but its Reading says that it knows 12 classes; "
    with pytest.raises(UserError, match=words):
        source.look(())
