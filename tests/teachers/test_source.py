"""A teacher is asked as seldom as can be, and never changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from potstill.checkpoint import read_weights
from potstill.data import CropFlip, load
from potstill.machine import Machine
from potstill.methods import KD
from potstill.models import Network, build
from potstill.stage import Stage
from potstill.store.kept import CHUNK, chunks
from potstill.teachers import Given
from potstill.teachers.source import Live
from teachers.asked import result, soft_run


def batch_norm_teacher() -> nn.Module:
    """A teacher whose answers would change in training mode: batch norm and dropout before the prototypes."""
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(norm, nn.Dropout(0.5), *tiny.linear_teacher().children())


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
    from potstill.teachers import source, teacher

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
    from potstill.teachers import teacher

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


def test_views_are_counted_for_who_ever_has_them(runs_dir: Path):
    (run,) = tiny.CASES["views"]()
    found, _ = result(runs_dir, run)
    assert found["views_per_step"] == 2
    # Eighteen views of each image, eight shown: asked of the teacher as they come, for they are kept.
    assert found["forwards_per_step"] == 4
    still = replace(run, data=replace(tiny.data(augment=CropFlip(padding=1)), companion="view", views=2))
    assert result(runs_dir, still)[0]["forwards_per_step"] == pytest.approx(2 * (1 + 2 / 8))
