"""Teachers of every kind: what is refused, and what company changes."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from potstill import record
from potstill.checkpoint import read_weights
from potstill.errors import UserError
from potstill.methods import KD, Hint, Logits
from potstill.models import Network
from potstill.reading import Reading
from potstill.run import ResultOf, Run, result_of
from potstill.stage import Stage
from potstill.teachers import EMA, Ensemble, Given, OwnPast, Peers, Sampled, Shuffled, Teacher, Uniform, Untrained
from teachers.asked import taught


def pupils(runs: Sequence[Run], teacher: Run) -> list[Run]:
    return [replace(run, teacher=result_of(teacher)) for run in runs]


def test_the_student_of_another_run_teaches(runs_dir: Path):
    first = tiny.run("first", teacher=None, stages=[tiny.labels_only(6, tiny.OPTIMIZERS["Adam"])])
    (pupil,) = pupils([tiny.run("pupil", stages=[Stage(terms=(KD(),), epochs=1, optimizer=tiny.SGD)])], first)
    folder = record.folder_of(runs_dir, "first", ResultOf(first).identity())
    words = f"The teacher's run in {folder} is not finished; train it first, or delete the folder to try again."
    with pytest.raises(UserError) as told:
        tiny.train_in(runs_dir, [pupil])
    assert str(told.value) == words
    tiny.train_in(runs_dir, [first])
    loaded = ResultOf(first).load(runs_dir).state_dict()
    kept = read_weights(folder / "student.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in kept.items())
    (own,) = tiny.train_in(runs_dir, [pupil])
    result = record.Record(own).result
    assert result is not None
    assert result["teacher"] == record.Record(folder).fingerprint
    assert result["agreement"] is not None
    record.write_json(folder / "result.json", {**(record.Record(folder).result or {}), "status": "diverged"})
    with pytest.raises(UserError) as told:
        ResultOf(first).load(runs_dir)
    assert str(told.value) == words.replace("is not finished", "diverged")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ensemble(()), "The ensemble has 0 teachers; give it at least two."),
        (lambda: Ensemble((tiny.teacher(),)), "The ensemble has 1 teachers; give it at least two."),
        (
            lambda: Ensemble((tiny.linear_teacher(), tiny.linear_teacher())),  # pyright: ignore[reportArgumentType]
            "The ensemble was given a Sequential; expected teachers: Given(Network.given(module, classes)) makes one "
            "of a module that you hold.",
        ),
        (
            lambda: Peers((tiny.linear_teacher(),)),  # pyright: ignore[reportArgumentType]
            "Peers were given a Sequential; expected networks: Network.given(module, classes) makes one of a module "
            "that you hold.",
        ),
        (
            lambda: Ensemble((tiny.teacher(), EMA())),
            "An ensemble takes outside teachers only: trained networks and what is made of them.",
        ),
        (
            lambda: Ensemble((tiny.teacher(), tiny.teacher()), (1.0,)),
            "The ensemble of 2 teachers has the weights (1.0,); expected one each, > 0 and finite.",
        ),
        (
            lambda: Ensemble((tiny.teacher(), tiny.teacher()), (1e308, 1e308)),
            "The ensemble of 2 teachers has the weights (1e+308, 1e+308); expected one each, > 0 and finite.",
        ),
        (
            lambda: Sampled(right=Ensemble((tiny.teacher(), Uniform()))),
            "Classes are drawn from what one trained network says; give Sampled such a teacher, and not several.",
        ),
        (
            lambda: taught(OwnPast(), Logits()),
            "The term 'logits' of 'taught' compares logits as numbers, but its teacher gives the label alone for "
            "images that it has not met; leave the term out, or give it another teacher.",
        ),
        (lambda: Peers(()), "Peers were given no other network; name at least one."),
        (lambda: EMA(decay=1.0), "The decay of the averaged student is 1; expected a share from 0 to below 1."),
        (
            lambda: taught(Peers((tiny.dropping(),)), student=tiny.dropping()),
            "Two peers of 'taught' are the same network with the same weights, and would stay so; give each its own, "
            "or name them so that they are drawn.",
        ),
        (
            lambda: Untrained(Network.given(tiny.linear_teacher(), tiny.CLASSES)),
            "Untrained was given 'Sequential' with weights that it learned; name a network without any.",
        ),
        (
            lambda: Untrained(Network("timm:resnet18", 4, options={"pretrained": True})),
            "Untrained was given 'timm:resnet18' with weights that it learned; name a network without any.",
        ),
        (
            lambda: Reading(mean=(0.5,)),
            "The teacher reads with mean=(0.5,) and std=(); expected one finite number per channel in both, deviations "
            "above 0.",
        ),
        (
            lambda: Reading(classes=(0, 5), known=4),
            "The teacher's 4 outputs are named by classes=(0, 5); expected for each class of the data a place among "
            "them, or -1.",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(make: Any, sentence: str):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        make()


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path):
    hint = Hint(student=("stage1",), teacher=("stage1",))
    both = Ensemble((tiny.teacher(), tiny.teacher()))
    three = tiny.teacher(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 3)
    grey = replace(tiny.teacher(), reading=Reading(mean=(0.5,), std=(0.2,)))
    for teacher, terms, sentence in (
        (both, (hint,), "is an ensemble of 2, which has no tap 'stage1'; name a member by its place: '0/stage1' is"),
        (OwnPast(), (hint,), "The student's own past has no tap 'stage1', only logits; leave the terms out"),
        (Uniform(), (hint,), "The teacher is uniform and has no tap 'stage1'; leave the terms out that need it."),
        (Ensemble((tiny.teacher(), three)), (KD(),), "The teacher 2 of 2 answers 3 classes but the data has 4 classes"),
        (
            grey,
            (KD(),),
            "The teacher reads with mean=(0.5,), of 1 channels, but images of the data have 3; give it one",
        ),
        (Peers((Network("digits_conv", 3, 3),)), (KD(),), "The peer 1 answers 3 classes but the data has 4 classes"),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)):
            tiny.train_in(tmp_path, [taught(teacher, *terms)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "teacher",
    [
        replace(tiny.teacher(), reading=Reading(size=16)),
        Untrained(tiny.convolutional()),
        Shuffled(tiny.teacher()),
        Uniform(),
        Ensemble((tiny.teacher(), tiny.teacher())),
        Sampled(right=tiny.teacher()),
        EMA(),
        OwnPast(),
        Peers((tiny.wider(),)),
    ],
    ids=lambda teacher: type(teacher).__name__,
)
def test_a_teacher_is_the_same_in_whichever_file_its_kind_stands(teacher: Teacher):
    moved = type("Moved", (type(teacher),), {"__module__": "elsewhere"})
    again = moved(**{field.name: getattr(teacher, field.name) for field in fields(teacher)})
    assert again.identity() == teacher.identity()


@pytest.mark.parametrize("case", tiny.TAUGHT)
def test_company_changes_nothing_whoever_teaches(case: str, tmp_path: Path):
    (run,) = tiny.CASES[case]()
    beside = replace(run, name="beside", stages=(replace(run.stages[0], epochs=3),))
    (alone,) = tiny.train_in(tmp_path / "alone", [run])
    together, _ = tiny.train_in(tmp_path / "together", [run, beside])
    assert tiny.told(together) == tiny.told(alone)


WRONG = """
import torch
from torch import nn
from potstill import Data, Given, Network, Optimizer, Run, Stage, UserError, result_of
from potstill.methods import KD, Labels
from potstill.reading import Reading
from potstill.teachers import Ensemble, Peers, Sampled, Shuffled, Untrained

net, module, data = Network("digits_mlp", 10, 1), nn.Linear(2, 2), Data(name="digits")
stage = Stage(terms=(Labels(),), epochs=1, optimizer=Optimizer(name="SGD", learning_rate=0.1))
run = Run(name="r", student=net, data=data, stages=(stage,))
for make in (
    lambda: Run(name="r", student=module, data=data, stages=(stage,)),
    lambda: Run(name="r", student=net, data="digits", stages=(stage,)),
    lambda: Run(name="r", student=net, data=data, stages=(stage,), teacher=run),
    lambda: Run(name="r", student=net, data=data, stages=stage),
    lambda: Stage(terms=(KD,), epochs=1, optimizer=stage.optimizer),
    lambda: Peers(net),
    lambda: Ensemble(result_of(run)),
    lambda: Ensemble((result_of(run), result_of(run)), ("a", "b")),
    lambda: Shuffled(run),
    lambda: Sampled(right=module),
    lambda: result_of(net),
    lambda: Untrained("digits_mlp"),
    lambda: Given(module),
    lambda: Network.given("x.pt", 10),
    lambda: Reading(mean=0.5, std=0.5),
    lambda: Reading(mean=(float("nan"),), std=(0.5,)),
):
    try:
        make()
    except UserError as error:
        print(error)
"""


def test_what_is_of_another_kind_is_refused_with_a_sentence():
    said = subprocess.run([sys.executable, "-c", WRONG], check=True, capture_output=True, text=True).stdout
    held = "expected a Network: Network.given(module, classes) makes one of a module that you hold."
    named = "expected a teacher: result_of(run) or Given(Network.given(module, classes)) makes one."
    assert said.splitlines() == [
        f"The student of 'r' is a Linear; {held}",
        "What 'r' learns from is a str; expected Data, such as Data(name='cifar10').",
        f"The teacher of 'r' is a Run; {named}",
        "The stages of 'r' are a Stage; expected a tuple of stages.",
        "The terms of the stage 'train' are the class KD; expected terms, such as Labels().",
        "Peers were given a Network; expected a tuple of networks: Network.given(module, classes) makes one of a "
        "module that you hold.",
        "The ensemble was given a ResultOf; expected a tuple of teachers: Given(Network.given(module, classes)) makes "
        "one of a module that you hold.",
        "The ensemble's weights are a str; expected numbers, one each.",
        f"Shuffled was given a Run; {named}",
        f"Sampled was given a Linear; {named}",
        "result_of was given a Network; expected a Run, whose student teaches.",
        f"Untrained was given a str; {held}",
        f"Given holds a Linear; {held}",
        "Network.given was given a str; expected a module with its weights loaded.",
        "The mean of a reading is a float; expected a tuple of numbers, one per channel.",
        "The teacher reads with mean=(nan,) and std=(0.5,); expected one finite number per channel in both, deviations "
        "above 0.",
    ]


class Writes(nn.Module):
    """Normalises the images where they stand."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return self.network(x)


@pytest.mark.parametrize("who", ["student", "teacher", "peer"])
def test_a_network_that_writes_into_the_images_is_refused(who: str, runs_dir: Path):
    network = Network.given(Writes(tiny.linear_teacher()), tiny.CLASSES)
    teacher = {"teacher": Given(network), "peer": Peers((network,))}.get(who, tiny.teacher())
    student = network if who == "student" else tiny.convolutional()
    with pytest.raises(UserError, match=r"^Writes writes into the images that it is given, which others are shown"):
        tiny.train_in(runs_dir, [taught(teacher, student=student)])


def test_weights_of_another_type_are_told_of_and_a_network_that_casts_teaches(runs_dir: Path):
    half = tiny.linear_teacher().half()
    words = r"\(images are float32, its weights float16: call \.float\(\) on it\)"
    with pytest.raises(UserError, match=words):
        tiny.train_in(runs_dir, [taught(tiny.teacher(half))])
    (folder,) = tiny.train_in(runs_dir, [taught(tiny.teacher(Casts(half)))])
    summary = record.read_json(folder / "summary.json")
    assert summary is not None
    assert summary["teacher"]["mult_adds"] == 192 * tiny.CLASSES + tiny.CLASSES


class Casts(nn.Module):
    """Works in half precision."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half())
