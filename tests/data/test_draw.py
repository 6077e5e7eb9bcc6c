import numpy as np
import pytest
import tiny
import torch

from potstill.data import CropFlip, Data, Draw, load
from potstill.data.draw import classmates
from potstill.errors import UserError

COUNT, BATCH = 26, 8


def drawing(companion=None, seed=0, augment=None, **more):
    data = tiny.data(train=COUNT, validation=0)
    data = Data(name=data.name, arrays=data.arrays, augment=augment, companion=companion, **more)
    return Draw(load(data), data, seed, BATCH)


def test_every_image_comes_once_an_epoch_and_a_lone_last_one_does_not():
    draw = drawing()
    assert draw.steps == 4
    batches = list(draw.batches(0))
    assert [len(batch.labels) for batch in batches] == [8, 8, 8, 2]
    assert torch.cat([batch.index for batch in batches]).sort().values.tolist() == list(range(COUNT))
    lone = tiny.data(train=25, validation=0)
    assert Draw(load(lone), lone, 0, BATCH).steps == 3


def test_an_epoch_can_be_entered_anywhere():
    draw = drawing("view", augment=CropFlip(padding=1))
    whole = list(draw.batches(3))
    for mine, theirs in zip(draw.batches(3, start=2), whole[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_another_view_of_each_image_stands_in_the_second_half():
    draw = drawing("view", augment=CropFlip(padding=1))
    plain = drawing(augment=CropFlip(padding=1))
    shown: dict[int, list[int]] = {}
    for epoch in range(3):
        assert draw.turns(epoch) == (2 * epoch, 2 * epoch + 1)
        for batch, alone in zip(draw.batches(epoch), plain.batches(epoch), strict=True):
            half = len(batch.labels) // 2
            assert torch.equal(batch.index[:half], alone.index), "the same images are drawn"
            assert torch.equal(batch.index[:half], batch.index[half:])
            assert torch.equal(batch.labels[:half], batch.labels[half:])
            for place, view in zip(batch.index.tolist(), batch.view.tolist(), strict=True):
                shown.setdefault(place, []).append(view)
    # The walk goes on by two a turn, so nothing is shown twice before all 18 views were.
    assert all(len(set(views)) == 6 for views in shown.values())


def test_a_classmate_of_each_image_stands_in_the_second_half():
    draw = drawing("classmate", augment=CropFlip(padding=1))
    assert draw.turns(5) == (5, 5)
    firsts: list[int] = []
    seconds: list[int] = []
    for batch in draw.batches(5):
        half = len(batch.labels) // 2
        assert torch.equal(batch.labels[:half], batch.labels[half:])
        firsts += batch.index[:half].tolist()
        seconds += batch.index[half:].tolist()
    assert sorted(seconds) == sorted(firsts) == list(range(COUNT))
    assert sum(a != b for a, b in zip(firsts, seconds, strict=True)) > COUNT // 2


def test_classmates_change_with_epoch_and_seed_and_stay_in_their_class():
    labels = np.array([2, 0, 2, 2, 0, 5, 2, 0, 2])
    found = [classmates(labels, seed, epoch) for seed in (0, 1) for epoch in range(3)]
    for mates in found:
        assert (labels[mates] == labels).all()
        assert sorted(mates) == list(range(len(labels)))
        assert mates[5] == 5, "the only one of its class is its own"
    assert len({tuple(mates) for mates in found}) > 3
    assert (classmates(labels, 1, 2) == found[-1]).all()


def test_what_is_only_looked_at_comes_twice_as_it_is():
    draw = drawing("view", augment=CropFlip(padding=1))
    batch = next(drawing().batches(0))
    twice = draw.accompanied(batch)
    for part, doubled in zip(batch, twice, strict=True):
        assert torch.equal(doubled, torch.cat([part, part]))
    assert drawing().accompanied(batch) is batch


def test_images_with_a_single_view_cannot_come_with_another():
    with pytest.raises(UserError, match=r"shall come with another view, but there is a single one; give the data aug"):
        Data(name="digits", companion="view")
    with pytest.raises(UserError, match=r"companion='twin'; give 'view', 'classmate' or None\."):
        Data(name="digits", companion="twin")  # type: ignore[arg-type]
