"""`potstill.distill`: one call, for any pair of networks."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from torch.utils.data import TensorDataset

import potstill
from potstill import Data, Given, Network, Optimizer, Result, Run, RunFailed, Stage, UserError, distill
from potstill.checkpoint import read_weights
from potstill.methods import KD, Labels


class Mine(nn.Module):
    """A network as users write them: layers with names of their own, batch norm, dropout."""

    def __init__(self, classes: int = tiny.CLASSES):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(4 * 64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(torch.relu(self.norm(self.convolution(images))).flatten(1)))


def mine(seed: int = 0, classes: int = tiny.CLASSES) -> Mine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mine(classes)


def arrays() -> tuple[np.ndarray, ...]:
    return (*tiny.images(56, 1), *tiny.images(20, 2))


def plainly(student: object, runs_dir: Path, **more: object) -> Result:
    """The call with what every test wants."""
    given = {"data": arrays(), "epochs": 2, "batch_size": 8, "quiet": True, **more}
    if "teacher" not in given:
        given["teacher"] = tiny.linear_teacher()
    # Not as the tests' type checker wraps it: what is said of a wrong type is for those who have none.
    return inspect.unwrap(distill)(student, runs_dir=runs_dir, **given)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_students_copy_is_trained_and_returned_as_the_file_has_it(runs_dir: Path):
    student, teacher = mine(), tiny.linear_teacher()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    taught = {name: value.clone() for name, value in teacher.state_dict().items()}
    result = plainly(student, runs_dir, teacher=teacher)
    assert equal(student.state_dict(), before)
    assert equal(teacher.state_dict(), taught)
    assert student.training
    assert all(parameter.requires_grad for parameter in (*student.parameters(), *teacher.parameters()))
    assert type(result.student) is Mine
    assert not any(part.training for part in result.student.modules())
    assert all(parameter.device.type == "cpu" for parameter in result.student.parameters())
    # What ships has the plain student's keys, and nothing of what trained it.
    assert list(result.student.state_dict()) == list(before)
    assert equal(result.student.state_dict(), read_weights(result.folder / "student.safetensors"))
    assert not equal(result.student.state_dict(), before)


def test_metrics_are_those_of_the_returned_student(runs_dir: Path):
    x_train, y_train, x_test, y_test = arrays()
    result = plainly(mine(), runs_dir, data=(x_train, y_train, x_test, y_test))
    assert result.metrics == json.loads((result.folder / "result.json").read_text())
    assert result.folder.parent == runs_dir
    with torch.no_grad():
        logits = result.student(torch.from_numpy(x_test))
    right = (logits.argmax(1).numpy() == y_test).mean()
    assert result.metrics["test_accuracy"] == pytest.approx(right)
    assert result.metrics["parameters"] == sum(parameter.numel() for parameter in result.student.parameters())
    assert result.metrics["teacher_accuracy"] > 0.8


def test_called_again_it_does_nothing_new(runs_dir: Path):
    first = plainly(mine(), runs_dir)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = plainly(mine(), runs_dir)
    assert again.folder == first.folder
    assert again.metrics == first.metrics
    assert equal(again.student.state_dict(), first.student.state_dict())
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    assert plainly(mine(seed=1), runs_dir).folder != first.folder  # Other initial weights are another run.
    assert plainly(mine(), runs_dir, seed=1).folder != first.folder


def test_the_callers_random_numbers_and_threads_matter_to_nothing_and_are_left_alone(tmp_path: Path):
    results: list[Result] = []
    teacher = tiny.linear_teacher()
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        torch.set_num_threads(seed + 1)
        torch.use_deterministic_algorithms(bool(seed), warn_only=True)
        torch.backends.cudnn.benchmark = bool(seed)
        state = torch.get_rng_state()
        results.append(plainly("digits_conv", tmp_path / str(seed), teacher=teacher))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == seed + 1
        assert torch.are_deterministic_algorithms_enabled() == torch.backends.cudnn.benchmark == bool(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    one, other = results
    assert one.folder.name == other.folder.name
    assert equal(one.student.state_dict(), other.student.state_dict())


def test_torch_data_sets_are_the_same_as_arrays(runs_dir: Path):
    x_train, y_train, x_test, y_test = (torch.from_numpy(part) for part in arrays())
    sets = (TensorDataset(x_train, y_train), TensorDataset(x_test, y_test))
    assert plainly(mine(), runs_dir, data=sets).folder == plainly(mine(), runs_dir).folder


def test_a_named_set_and_a_named_student_without_a_teacher(runs_dir: Path):
    result = plainly("digits_mlp", runs_dir, teacher=None, data="digits", epochs=1, batch_size=64)
    assert result.metrics["teacher"] is None
    assert result.metrics["agreement"] is None
    assert result.metrics["test_accuracy"] > 0.3
    assert result.student(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_run_teaches_after_it_was_trained(runs_dir: Path):
    stage = Stage(terms=(Labels(),), epochs=40, optimizer=tiny.SGD)
    teacher = Run(
        name="teacher", student=Network("digits_conv", tiny.CLASSES, 3), data=tiny.data(validation=0), stages=(stage,)
    )
    result = plainly(mine(), runs_dir, teacher=teacher)
    (folder,) = runs_dir.glob("teacher-*")
    assert (folder / "student.safetensors").exists()
    assert result.metrics["teacher"] == potstill.fingerprint(teacher)


def test_terms_and_stages_are_the_users(runs_dir: Path):
    result = plainly(mine(), runs_dir, terms=[KD(temperature=2), Labels(weight=0.5)], optimizer="Adam")
    written = json.loads((result.folder / "run.json").read_text())["run"]
    (stage,) = written["stages"]
    assert [(term["is"], term["weight"]) for term in stage["terms"]] == [
        ("potstill.methods.kd:KD", 1.0),
        ("potstill.methods.labels:Labels", 0.5),
    ]
    assert stage["optimizer"] == {"name": "Adam", "learning_rate": 0.001, "options": {}}
    result = plainly(mine(), runs_dir, stages=tiny.two_stages(tap="convolution"), data=tiny.data())
    lines = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines][:3] == ["hint", "hint", "train"]
    assert list(result.student.state_dict()) == list(mine().state_dict())


def test_what_was_not_said_is_what_the_documentation_says(runs_dir: Path):
    result = plainly(mine(), runs_dir, epochs=1)
    (stage,) = json.loads((result.folder / "run.json").read_text())["run"]["stages"]
    assert [(term["is"].partition(":")[2], term["weight"]) for term in stage["terms"]] == [("KD", 0.9), ("Labels", 0.1)]
    assert stage["terms"][0]["temperature"] == 4.0
    options = {"momentum": 0.9, "weight_decay": 5e-4}
    assert stage["optimizer"] == {"name": "SGD", "learning_rate": 0.05, "options": options}
    assert stage["schedule"]["is"] == "potstill.optim:Cosine"


MISTAKES = {
    "student": ({"student": 3}, "The student is a int; expected an nn.Module, or a model's name."),
    "model": ({"student": "digits_cnn"}, "There is no network 'digits_cnn'; did you mean 'digits_conv' or "),
    "teacher": ({"teacher": "digits_conv"}, "The teacher is a str; expected an nn.Module with its weights, a Run, or "),
    "data": ({"data": {"train": 1}}, "The data is a dict; expected a name, (x_train, y_train, x_test, y_test), or two"),
    "parts": ({"data": arrays()[:3]}, "Data.given was given 3 parts; give (x_train, y_train, x_test, y_test), or a "),
    "set": ({"data": "cifar11"}, "There is no data set named 'cifar11'; did you mean 'cifar10'"),
    "labels": ({"data": (*arrays()[:3], arrays()[3] + 9)}, "The test labels go up to 12 but the training labels end"),
    "both": (
        {"terms": [KD()], "stages": tiny.two_stages()},
        "Both terms and stages were given; stages carry their own",
    ),
    "rate": ({"learning_rate": 1.0, "stages": tiny.two_stages()}, "Both learning_rate and stages were given; stages "),
    "two rates": ({"learning_rate": 1.0, "optimizer": Optimizer()}, "Both an Optimizer and learning_rate were given; "),
    "optimizer": ({"optimizer": "Adan"}, "torch.optim has no optimizer 'Adan'; did you mean 'Adam'?"),
    "epochs": ({"epochs": 0}, "The stage 'train' lasts 0 epochs; expected a whole number ≥ 1."),
    "batch": ({"batch_size": 1}, "The batch size is 1; expected at least 2 images."),
    "no teacher": ({"teacher": None, "terms": [KD()]}, "The term 'kd' of 'distill' compares with a teacher, but the "),
    "device": ({"device": "tpu"}, "--device is 'tpu', which is not here; this machine has: cpu"),
    "classes": ({"student": mine(classes=5)}, "The student answers 5 classes but the data has 4"),
    "untrained": ({"teacher": nn.Sequential(nn.Flatten(), nn.Linear(192, 4))}, "The teacher is at chance ("),
    "weak": ({"teacher_at_least": 1.5}, "below the 150.00% asked for"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str, runs_dir: Path):
    given, sentence = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        plainly(given.get("student", mine()), runs_dir, **{key: given[key] for key in given if key != "student"})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(runs_dir.glob("*/result.json"))


def test_a_training_that_diverges_says_so(runs_dir: Path):
    with pytest.raises(
        RunFailed, match=r"^The run in .*distill-\w{12} diverged: a loss was no longer a finite number "
    ):
        plainly(mine(), runs_dir, learning_rate=1e30)


def test_a_given_teacher_is_the_module_itself(runs_dir: Path):
    teacher = tiny.linear_teacher()
    spec = Given(Network.given(teacher, tiny.CLASSES))
    assert plainly(mine(), runs_dir, teacher=spec).folder == plainly(mine(), runs_dir, teacher=teacher).folder


def test_data_with_a_validation_split_keeps_the_best(runs_dir: Path):
    data = Data.given(arrays(), name="tiny", validation=0.2)
    result = plainly(mine(), runs_dir, data=data)
    assert result.metrics["best_validation_epoch"] in (1, 2)
    assert read_weights(result.folder / "best.safetensors").keys() == mine().state_dict().keys()


def test_what_a_teacher_said_is_kept_for_the_next_call(tmp_path: Path):
    for store, files in (("off", 0), ("1MiB", 2)):
        for seed in (0, 1):
            place = tmp_path / store
            distill(
                tiny.convolutional(),
                tiny.linear_teacher(),
                tiny.data(validation=0),
                epochs=1,
                seed=seed,
                runs_dir=place,
                store=store,
                quiet=True,
            )
        assert len(list(place.glob("store/*/t*.rows"))) == files + (files > 0)
