"""A teacher is judged before it teaches."""

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from potstill import record
from potstill.cohort import train
from potstill.data import load
from potstill.display import Silent
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.models import Network
from potstill.run import Run
from potstill.teachers import Ensemble, Shuffled, Uniform
from potstill.teachers.gate import FIRST, gate
from potstill.teachers.source import Live
from teachers.asked import opened, soft_run


class Lines(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


def refusal(runs_dir: Path, run: Run, at_least: float | None = None) -> str:
    """The sentence with which a run is refused, before anything of it is on disk."""
    with pytest.raises(UserError) as told:
        train([run], Machine(), tiny.conditions(runs_dir, teacher_at_least=at_least), Silent())
    assert not list(runs_dir.glob("*/*.json*"))
    return str(told.value)


def test_a_teacher_at_chance_is_refused(runs_dir: Path):
    constant = tiny.linear_teacher(scale=0.0)
    assert refusal(runs_dir, soft_run(constant, data=tiny.data(validation=0))) == (
        "The teacher is at chance (25.00% on 56 images, guessing gives 25.00%); "
        "check that its weights were loaded, and that its classes and normalisation are those of the data."
    )


def test_a_teacher_that_is_better_than_chance_by_luck_only_is_refused():
    # 14 of 40 right: above the 25 % of guessing, and within what guessing gives now and then.
    resident = load(tiny.data(train=40, validation=0))
    source = Live(tiny.linear_teacher(), resident, Machine())
    labels = resident.train.labels
    for right, refused in ((14, True), (20, True), (21, False)):
        logits = nn.functional.one_hot(labels, tiny.CLASSES).float()
        logits[right:] = logits[right:].roll(1, 1)
        source._kept._turns.clear()
        source.network[1] = _Fixed(logits)  # pyright: ignore
        if refused:
            with pytest.raises(UserError, match=r"^The teacher is at chance \("):
                gate(source, resident, None)
        else:
            assert gate(source, resident, None) == (pytest.approx(21 / 40), (), ("teacher: 52.50% on 40 images",))


@pytest.mark.parametrize("count", [4, 8, 12])
def test_a_perfect_teacher_passes_however_few_images_judge_it(count: int):
    resident = load(tiny.data(train=count, validation=0))
    source = Live(tiny.linear_teacher(), resident, Machine())
    assert gate(source, resident, 1.0) == (1.0, (), (f"teacher: 100.00% on {count} images",))


class _Fixed(nn.Module):
    """Answers the same logits for whatever it is shown."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_a_teacher_below_what_was_asked_for_is_refused(runs_dir: Path):
    wrong = tiny.linear_teacher()
    with torch.no_grad():  # Two classes of four are never named.
        wrong[1].bias += torch.tensor([0.0, 0.0, -1e3, -1e3])  # pyright: ignore[reportIndexIssue]
    told = refusal(runs_dir, soft_run(wrong, data=tiny.data(train=400, validation=0)), at_least=0.9)
    assert told == (
        "The teacher reaches 50.00% on 400 images, below the 90.00% asked for with --teacher-at-least; "
        "give it a better one, or ask for less."
    )


def test_the_gate_says_and_records_what_it_measured(runs_dir: Path):
    display = Lines()
    conditions = tiny.conditions(runs_dir, teacher_at_least=0.9)
    (folder,) = train([soft_run()], Machine(), conditions, display)
    assert display.said == ["teacher: 100.00% on 11 images"]  # The validation split.
    result = record.Record(folder).result
    assert result is not None
    assert result["teacher_accuracy"] == 1.0
    assert result["teacher"] == soft_run().teacher.identity()  # pyright: ignore[reportOptionalMemberAccess]


def test_without_a_validation_split_the_first_2000_training_images_judge():
    resident = load(tiny.data(train=FIRST + 100, validation=0))
    source = Live(tiny.linear_teacher(), resident, Machine())
    accuracy, _, (line,) = gate(source, resident, None)
    logits = tiny.linear_teacher()(resident.train.images[:2000])
    assert accuracy == pytest.approx((logits.argmax(1) == resident.train.labels[:2000]).float().mean().item())
    assert line.endswith(" on 2,000 images")
    assert source.passes == 4


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_unlike_numbers_of_classes_are_told_before_training(who: str, runs_dir: Path):
    three = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    run = soft_run(three, classes=3) if who == "teacher" else soft_run(student=Network.given(three, 3))
    assert refusal(runs_dir, run) == (
        f"The {who} answers 3 classes but the data has 4 classes; give one that answers one logit per class, (4,) an "
        f"image{', or a Reading that says which of its outputs mean them' if who == 'teacher' else ''}."
    )


def test_answers_that_are_no_logits_are_told_before_training(runs_dir: Path):
    maps = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert refusal(runs_dir, soft_run(maps)) == (
        "The teacher answers two images with a tensor of shape (2, 4, 6, 6) but the data has 4 classes; "
        "give one that answers one logit per class, (4,) an image, or a Reading that says which of its outputs mean "
        "them."
    )


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_a_network_that_cannot_read_the_images_is_told_before_training(who: str, runs_dir: Path):
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 4))
    run = soft_run(grey) if who == "teacher" else soft_run(student=Network.given(grey, 4))
    told = refusal(runs_dir, run)
    assert told.startswith(f"The {who} cannot read images of 3 × 8 × 8 (channels × height × width): ")
    assert "expected input[2, 3, 8, 8] to have 1 channels" in told
    assert "\n" not in told


def test_a_member_at_chance_is_refused_by_its_place():
    resident = load(tiny.data(train=400, validation=0))
    source = opened(Ensemble((tiny.teacher(), tiny.teacher(tiny.linear_teacher(scale=0.0)))), resident)
    with pytest.raises(UserError, match=r"^The teacher 2 of 2 is at chance \(25\.00% on 400 images"):
        gate(source, resident, None)


def test_members_of_an_ensemble_within_are_judged_too():
    resident = load(tiny.data(train=400, validation=0))
    lost = tiny.teacher(tiny.linear_teacher(scale=0.0))
    source = opened(Ensemble((tiny.teacher(), Ensemble((tiny.teacher(), lost)))), resident)
    with pytest.raises(UserError, match=r"^The teacher 2\.2 of 2 is at chance"):
        gate(source, resident, None)
    three = opened(Ensemble((tiny.teacher(), Ensemble((tiny.teacher(), Shuffled(tiny.teacher()))))), resident)
    judged = gate(three, resident, None)
    assert [line.partition(":")[0] for line in judged.lines] == [
        "teacher 1 of 2",
        "teacher 2.1 of 2",
        "teacher 2.2 of 2",
        "teacher",
    ]
    assert judged.members[0] == judged.members[1] > 0.9 > judged.members[2]


def test_an_ensemble_of_controls_is_one():
    resident = load(tiny.data(train=400, validation=0))
    source = opened(Ensemble((Shuffled(tiny.teacher()), Uniform())), resident)
    assert gate(source, resident, 0.9).lines[-1].endswith("(a control)")
