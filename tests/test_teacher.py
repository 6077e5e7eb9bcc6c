"""The outside teacher: judged before it teaches, asked as seldom as can be, and never changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from potstill import record
from potstill.checkpoint import read_weights
from potstill.cohort import train
from potstill.data import CropFlip, load
from potstill.display import Silent
from potstill.errors import UserError
from potstill.gate import FIRST, gate
from potstill.machine import Machine
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.run import ResultOf, Run, result_of
from potstill.source import Live
from potstill.stage import Stage
from potstill.store.kept import CHUNK, chunks
from potstill.teacher import Given


class Lines(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


def batch_norm_teacher() -> nn.Module:
    """A teacher whose answers would change in training mode: batch norm and dropout before the prototypes."""
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(norm, nn.Dropout(0.5), *tiny.linear_teacher().children())


def soft_run(network: nn.Module | None = None, *, classes: int = tiny.CLASSES, **fields: Any) -> Run:
    stages = [Stage(terms=(Labels(), KD()), epochs=2, optimizer=tiny.SGD)]
    return tiny.run("soft", stages=stages, teacher=tiny.teacher(network, classes), **fields)


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


def test_images_with_one_view_are_asked_about_once():
    resident = load(tiny.data(train=2 * CHUNK + 1, validation=0.2))
    source = Live(tiny.linear_teacher(), resident, Machine())
    train_split, test = resident.train, resident.test
    places = torch.tensor([5, 700, 3, 3])
    for _ in range(3):
        batch = resident.batch(train_split, places)
        told = source(batch, train_split)
        wanted = tiny.linear_teacher()(train_split.images[places])
        torch.testing.assert_close(told.logits, wanted)
        assert told.taps == {}
    assert source.passes == 2  # 801 images.
    source.answers(test)
    source.answers(test)
    assert source.passes == 3
    source.answers(resident.validation)  # pyright: ignore[reportArgumentType]
    assert source.passes == 4


def test_a_training_asks_once_for_each_view_that_is_shown_unless_they_are_too_many(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    from potstill import source, teacher

    made: list[Live] = []

    def keep(*given: Any) -> Live:
        made.append(Live(*given))
        return made[-1]

    monkeypatch.setattr(teacher, "Live", keep)
    tiny.train_in(runs_dir, [soft_run()])
    tiny.train_in(runs_dir, [soft_run(data=tiny.data(augment=CropFlip(padding=1)))])
    two_views = replace(tiny.data(augment=CropFlip(padding=1)), views=2)
    tiny.train_in(runs_dir, [replace(soft_run(data=two_views), seed=1).lasting(6)])
    monkeypatch.setattr(source, "REMEMBERED", 0)
    tiny.train_in(runs_dir, [replace(soft_run(data=tiny.data(augment=CropFlip(padding=1))), seed=2)])
    # The validation images once, in the gate; the training images once for each view shown, or at every step; the
    # test images once.
    assert [each.passes for each in made] == [3, 2 + 2, 2 + 2, 2 * tiny.STEPS + 2]


def test_moving_views_are_asked_about_live_and_still_images_are_not():
    resident = load(tiny.data(augment=CropFlip(padding=1)))
    source = Live(tiny.linear_teacher(), resident, Machine())
    batch = resident.batch(resident.train, torch.arange(4), torch.tensor([0, 5, 9, 17]))
    for turn in range(1, 3):
        torch.testing.assert_close(source(batch, resident.train).logits, tiny.linear_teacher()(batch.inputs))
        assert source.passes == turn
    assert resident.validation is not None
    for _ in range(2):
        for part in chunks(resident, resident.validation):
            source(part, resident.validation)
    assert source.passes == 3


def test_taps_come_with_the_logits_that_are_looked_up_without_them():
    resident = load(tiny.data())
    source = Live(batch_norm_teacher(), resident, Machine(precision="bf16"))
    batch = resident.batch(resident.train, torch.arange(7))
    alone, tapped = source(batch, resident.train), source(batch, resident.train, ("3:in",))
    assert torch.equal(alone.logits, tapped.logits)
    assert alone.logits.dtype == torch.float32
    assert list(tapped.taps) == ["3:in"]
    assert tapped.taps["3:in"].shape == (7, 192)


@pytest.mark.parametrize("augment", [None, CropFlip(padding=1)], ids=["one view", "augmented"])
def test_training_leaves_the_teacher_as_it_was(
    augment: CropFlip | None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    from potstill import teacher

    made: list[Live] = []

    def keep(network: nn.Module, *rest: Any) -> Live:
        # As a caller might leave it.
        made.append(Live(network.train().requires_grad_(True), *rest))
        return made[-1]

    monkeypatch.setattr(teacher, "Live", keep)
    given = batch_norm_teacher()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    terms = (tiny.Hint(), KD(weight=10))
    stages = [Stage(terms=terms, epochs=2, optimizer=tiny.OPTIMIZERS["Adam"])]
    run = tiny.run(stages=stages, teacher=Given(Network.given(given, 4)), data=tiny.data(augment=augment))
    (folder,) = tiny.train_in(runs_dir, [run])
    (source,) = made
    after = source.network.state_dict()  # pyright: ignore
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(torch.equal(given.state_dict()[name], value) for name, value in before.items())
    assert not any(part.training for part in source.network.modules())  # pyright: ignore
    assert not any(p.requires_grad or p.grad is not None for p in source.network.parameters())  # pyright: ignore
    # Nor is it in what the student leaves.
    student = tiny.convolutional()
    from potstill.models import build

    assert read_weights(folder / "student.safetensors").keys() == build(student).state_dict().keys()


def test_evaluation_mode_is_forced_at_every_pass():
    resident = load(tiny.data(augment=CropFlip(padding=1)))
    source = Live(batch_norm_teacher(), resident, Machine())
    batch = resident.batch(resident.train, torch.arange(8), torch.zeros(8, dtype=torch.int64))
    first = source(batch, resident.train).logits
    source.network.train()  # pyright: ignore
    again = source(batch, resident.train)
    assert torch.equal(first, again.logits)
    assert not again.logits.requires_grad
    assert not torch.is_inference(again.logits)
    assert int(source.network[0].num_batches_tracked) == 0  # pyright: ignore


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
