import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from specs import STUDENT, TEACHER
from torch import nn

from potstill import checkpoint, record
from potstill.codec import encode
from potstill.connect import Pointwise
from potstill.data import CropFlip, Data, Draw, load
from potstill.errors import UserError
from potstill.methods import KD, Labels
from potstill.models import Network, ReusedHead, build
from potstill.optim import Cosine, MultiStep, Optimizer
from potstill.reading import Reading
from potstill.run import ResultOf, Run, fingerprint, result_of
from potstill.stage import EarlyStopping, Stage
from potstill.teachers import Given
from potstill.types import Companion


def test_4_and_4_0_are_one_fingerprint():
    whole = replace(STUDENT.stages[1], terms=(Labels(weight=1), KD(temperature=4)))
    exact = replace(STUDENT.stages[1], terms=(Labels(weight=1.0), KD(temperature=4.0)))
    assert fingerprint(replace(STUDENT, stages=(whole,))) == fingerprint(replace(STUDENT, stages=(exact,)))


@pytest.mark.parametrize("companion", [None, "classmate"])
def test_the_images_of_a_run_are_those_that_its_steps_show(companion: Companion | None):
    run = replace(STUDENT, data=replace(STUDENT.data, companion=companion, validation=0.1))  # 179.7 of 1,797.
    draw = Draw(load(run.data), run.data, run.seed, run.batch_size)
    shown = sum(len(batch.inputs) for epoch in range(run.epochs) for batch in draw.batches(epoch))
    assert run.images_shown == shown


# What else a field may be where its value alone does not tell: texts that name something, and None.
ELSE: dict[tuple[type, str], Any] = {
    (Network, "name"): "vgg8",
    (Network, "options"): {"width": 9},
    (Network, "reused"): None,
    (Network, "initial"): "00",
    (ReusedHead, "student"): "stage3",
    (ReusedHead, "teacher"): "stage2",
    (ReusedHead, "projector"): Pointwise(),
    (Data, "name"): "mnist",
    (Data, "augment"): CropFlip(padding=3),
    (Data, "views"): 5,
    (Data, "companion"): "classmate",
    (Data, "content"): "00",
    (Stage, "terms"): (Labels(weight=0.3), Labels(name="again")),
    (Stage, "schedule"): Cosine(),
    (Stage, "train"): ("student.*", "learned.*"),
    (Stage, "stop"): EarlyStopping(patience=9),
    (Stage, "name"): "other",
    (Labels, "name"): "other",
    (KD, "name"): "other",
    (Optimizer, "name"): "Rprop",
    (Optimizer, "options"): {"maximize": True},
    (MultiStep, "milestones"): (2, 3),
    (Run, "stages"): (Stage(terms=(Labels(),), epochs=2, optimizer=Optimizer()),),
    (ResultOf, "reading"): Reading(size=16),
    (Given, "reading"): Reading(size=16),
    (Run, "teacher"): Given(Network("digits_conv", classes=10, channels=1)),
}
OUT = {"name"}  # Of a run; its teacher's name is out as well.
# What the teacher's run, which has no teacher itself, cannot have (`KD` has the field too); what wants companions.
TAUGHT = {(Labels, "only_right"), (Labels, "drawn_only")}


def others(spec: Any) -> Iterator[tuple[str, Any]]:
    """(path, the same specification with that one thing changed), for every field however deep."""
    hints = get_type_hints(type(spec))
    for field in fields(spec):
        if not field.compare or (isinstance(spec, Run) and field.name in OUT) or (type(spec), field.name) in TAUGHT:
            continue
        value = getattr(spec, field.name)
        if (type(spec), field.name) in ELSE:
            if ELSE[type(spec), field.name] != value:  # Only the student has another network's classifier.
                yield field.name, with_(spec, **{field.name: ELSE[type(spec), field.name]})
        elif not dataclasses.is_dataclass(value):
            yield field.name, with_(spec, **{field.name: another(value, hints[field.name])})
        for path, part in parts(value):
            yield f"{field.name}{path}", with_(spec, **{field.name: part})


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        for path, changed_value in others(value):
            yield f".{path}", changed_value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            for path, changed_item in parts(item):
                yield f"[{i}]{path}", (*value[:i], changed_item, *value[i + 1 :])


def with_(spec: Any, **change: Any) -> Any:
    if "name" in change and isinstance(spec, Optimizer):
        change["options"] = {}  # Not every optimizer has a momentum.
    return replace(spec, **change)


def another(value, hint):
    """A valid value unlike this one, of a plain type."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for option in options:
        if get_origin(option) is Literal:
            return next(word for word in get_args(option) if word != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.01
    raise AssertionError(f"a new field with the value {value!r}: say in ELSE what else it may be")


CHANGES: dict[str, Run] = dict(others(STUDENT))


@pytest.mark.parametrize("path", CHANGES)
def test_everything_that_decides_what_is_learned_is_in_the_fingerprint(path):
    assert CHANGES[path] != STUDENT
    assert fingerprint(CHANGES[path]) != fingerprint(STUDENT)


def test_no_two_of_these_changes_share_a_fingerprint():
    # "auto" and what it becomes on some machine are two requests; nothing may fall together by accident either.
    prints = [fingerprint(run) for run in CHANGES.values()]
    assert len(set(prints)) == len(prints) > 60


def test_every_field_of_a_run_was_changed():
    assert {field.name for field in fields(Run)} - OUT == {path.partition(".")[0].partition("[")[0] for path in CHANGES}


def test_labels_of_runs_are_not_in_the_fingerprint():
    assert fingerprint(replace(STUDENT, name="other")) == fingerprint(STUDENT)
    renamed = replace(STUDENT, teacher=result_of(replace(TEACHER, name="other")))
    assert renamed != STUDENT
    assert fingerprint(renamed) == fingerprint(STUDENT)


def test_a_given_network_is_known_by_its_weights():
    first, second = nn.Linear(4, 10), nn.Linear(4, 10)
    prints = [fingerprint(replace(STUDENT, student=Network.given(m, classes=10))) for m in (first, second, first)]
    assert prints[0] == prints[2] != prints[1]


def test_a_fingerprint_is_the_same_in_another_process_and_never_changes():
    # Another value here means that folders of earlier versions are not found again; if that is meant, write the new
    # one here and say so in the change log.
    known = "febea2419f5a9f7311d0cdfcbddc21e51945e1f35b5726f1ea40cd98d642b88a"
    code = (
        "import json, sys; from potstill.codec import decode; from potstill.run import Run, fingerprint;"
        "print(fingerprint(decode(Run, json.load(sys.stdin))))"
    )
    backwards = json.dumps(encode(STUDENT), sort_keys=True)  # Another order of keys, too.
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    answer = subprocess.run(
        [sys.executable, "-c", code], input=backwards, capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.strip() == fingerprint(STUDENT) == known


def test_published_sets_are_known_by_their_content():
    prints = {fingerprint(replace(STUDENT, data=Data(name=name, validation=0.25))) for name in ("digits", "mnist")}
    assert len(prints) == 2
    x = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    y = torch.tensor([0, 1, 0, 1])
    given = [Data.given([images, y, x, y], validation=0.25) for images in (x, x + 1, x.clone())]
    prints = [fingerprint(replace(STUDENT, data=data)) for data in given]
    assert prints[0] == prints[2] != prints[1]


def test_lasting_scales_every_stage_of_the_student_and_none_of_the_teachers():
    short = STUDENT.lasting(15)
    assert STUDENT.epochs == 5
    assert [stage.epochs for stage in short.stages] == [3, 12]
    assert short.stages[1] == STUDENT.stages[1].scaled(12)
    assert short.teacher == STUDENT.teacher
    assert replace(short, stages=STUDENT.stages) == STUDENT
    assert STUDENT.lasting(5) == STUDENT
    assert [stage.epochs for stage in STUDENT.lasting(1).stages] == [1, 1]  # Each at least one.
    assert fingerprint(short) != fingerprint(STUDENT)


@pytest.mark.parametrize("epochs", [0, -3])
def test_a_run_lasts_at_least_an_epoch(epochs):
    with pytest.raises(UserError, match=rf"^--epochs is {epochs}; expected a whole number ≥ 1\.$"):
        STUDENT.lasting(epochs)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"stages": ()}, "The run 'student' has no stages; give it at least one."),
        ({"batch_size": 1}, "The batch size is 1; expected at least 2 images."),
        (
            {"data": Data(name="digits")},
            "Early stopping of 'student' watches the validation split, but there is none; give the data "
            "validation=0.1, say.",
        ),
        (
            {"teacher": None},
            "The student of 'student' takes over its teacher's classifier, but the run has no teacher that is "
            "one trained network; give it one.",
        ),
        (
            {"teacher": None, "student": TEACHER.student},
            "The term 'kd' of 'student' compares with a teacher, but the run has none; give it one, or leave the "
            "term out.",
        ),
    ],
)
def test_a_run_that_cannot_be_is_refused_with_a_sentence(change, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        replace(STUDENT, **change)


def test_words_outside_their_lists_are_refused_with_a_sentence():
    # In a process of its own: under pytest the types of arguments may be checked before the sentence is reached.
    code = """
from potstill import EarlyStopping, Network, Optimizer, Run, Stage, UserError
from potstill.data import Data
from potstill.methods import KD, Labels
stages = (Stage(terms=(Labels(),), epochs=1, optimizer=Optimizer()),)
network = Network("digits_mlp", classes=10, channels=1)
for make in (
    lambda: Run(name="r", student=network, data=Data(name="digits"), stages=stages, precision="fp64"),
    lambda: KD(reduction="sum"),
    lambda: EarlyStopping(monitor="loss"),
):
    try:
        print(make())
    except UserError as error:
        print(error)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [
        "The precision is 'fp64'; expected auto, fp32 or bf16.",
        "The reduction of 'kd' is 'sum'; expected batchmean or mean.",
        "Early stopping watches 'loss'; expected one of validation_loss, validation_nll, validation_accuracy.",
    ]


def test_the_result_of_a_run_is_its_student():
    teacher = result_of(TEACHER)
    assert teacher == ResultOf(TEACHER)
    assert teacher.networks == (TEACHER.student,)
    assert teacher.identity() == fingerprint(TEACHER)


def test_a_finished_runs_student_is_loaded_with_its_weights(tmp_path):
    teacher = result_of(TEACHER)
    trained = build(TEACHER.student)
    folder = record.folder_of(tmp_path, TEACHER.name, teacher.identity())
    folder.mkdir()
    checkpoint.write(folder / "student.safetensors", trained.state_dict())
    record.write_json(folder / "run.json", {"fingerprint": teacher.identity()})
    record.write_json(folder / "result.json", {"status": "finished"})
    loaded = result_of(replace(TEACHER, name="called otherwise")).load(tmp_path)
    assert loaded is not trained
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize(("status", "says"), [(None, "is not finished"), ("diverged", "diverged")])
def test_a_teacher_that_is_not_there_is_a_sentence(tmp_path, status, says):
    folder = record.folder_of(tmp_path, TEACHER.name, fingerprint(TEACHER))
    if status is not None:
        folder.mkdir()
        record.write_json(folder / "result.json", {"status": status})
    with pytest.raises(UserError) as caught:
        result_of(TEACHER).load(tmp_path)
    assert str(caught.value) == (
        f"The teacher's run in {folder} {says}; train it first, or delete the folder to try again."
    )
