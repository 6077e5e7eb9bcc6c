import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms

from potstill.data import CropFlip, Data, Views, Warp, load


def given(n=40, shape=(3, 8, 8), **options):
    rng = np.random.default_rng(0)
    parts = [
        rng.integers(0, 256, (n, *shape)).astype(np.uint8),
        np.arange(n) % 3,
        rng.integers(0, 256, (9, *shape)).astype(np.uint8),
        np.arange(9) % 3,
    ]
    return Data.given(parts, **options), parts


def test_validation_is_a_part_of_the_published_split_fixed_by_the_name():
    data, parts = given(validation=0.25)
    resident = load(data)
    assert resident.validation is not None
    train, held_out = resident.train.index.numpy(), resident.validation.index.numpy()
    assert (len(resident.train), len(resident.validation), len(resident.test)) == (30, 10, 9)
    assert np.array_equal(np.sort(np.concatenate((train, held_out))), np.arange(40))
    for split in (resident.train, resident.validation):
        assert np.array_equal(split.images.numpy(), parts[0][split.index.numpy()])
        assert np.array_equal(split.labels.numpy(), parts[1][split.index.numpy()])
    smaller = load(given(validation=0.1)[0]).validation
    other = load(given(validation=0.25, name="other")[0]).validation
    assert smaller is not None
    assert other is not None
    assert set(smaller.index.tolist()) < set(held_out.tolist())
    assert set(other.index.tolist()) != set(held_out.tolist())
    assert np.array_equal(resident.test.images.numpy(), parts[2])
    assert load(given()[0]).validation is None


def test_random_state_has_no_say_in_a_split():
    splits = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        splits.append(load(Data(name="digits", validation=0.2)))
    assert torch.equal(splits[0].train.index, splits[1].train.index)
    assert torch.equal(splits[0].validation.index, splits[1].validation.index)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8)])
def test_a_batch_is_bitwise_what_torchvision_makes_of_the_images(shape):
    resident = load(given(shape=shape, validation=0.25)[0])
    rows = torch.tensor([3, 0, 29, 3])
    batch = resident.batch(resident.train, rows)
    normalise = transforms.Normalize(resident.mean.flatten().tolist(), resident.std.flatten().tolist())
    pictures = [resident.train.images[row].permute(1, 2, 0).numpy() for row in rows]
    assert torch.equal(batch.inputs, torch.stack([normalise(transforms.ToTensor()(picture)) for picture in pictures]))
    assert torch.equal(batch.labels, resident.train.labels[rows])
    assert torch.equal(batch.index, resident.train.index[rows])
    assert batch.view.tolist() == [0, 0, 0, 0]
    layout = torch.channels_last if shape[0] > 1 else torch.contiguous_format
    assert batch.inputs.is_contiguous(memory_format=layout)


def test_views_are_augmented_before_normalisation():
    resident = load(given(augment=CropFlip(2))[0])
    assert resident.available == 50
    rows = torch.arange(0, 40, 3)
    view = torch.from_numpy(Views(0, resident.available).at(resident.train.index[rows].numpy(), 4))
    batch = resident.batch(resident.train, rows, view)
    shown = CropFlip(2)(resident.train.images[rows], view)
    assert torch.equal(batch.inputs, (shown.float() / 255 - resident.mean) / resident.std)
    assert torch.equal(batch.view, view)
    # The border is black in the picture, not grey after normalisation.
    corner = resident.batch(resident.train, rows[:1], torch.tensor([0])).inputs[0, :, 0, 0]
    torch.testing.assert_close(corner, (-resident.mean / resident.std).flatten())


def test_without_augmentation_there_is_one_view():
    resident = load(given()[0])
    rows, zeros = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    assert resident.available == 1
    with_view, without = resident.batch(resident.train, rows, zeros), resident.batch(resident.train, rows)
    assert all(torch.equal(a, b) for a, b in zip(with_view, without, strict=True))


def test_drawing_a_batch_leaves_the_resident_images_alone():
    for data in (given()[0], Data.given([p / 2 if p.ndim > 1 else p for p in given()[1]])):
        resident = load(data)
        before = resident.train.images.clone()
        resident.batch(resident.train, torch.arange(40)).inputs.zero_()
        assert torch.equal(resident.train.images, before)


def test_mean_and_std_of_given_images_are_those_of_the_train_split():
    data, parts = given()
    resident = load(data)
    pixels = parts[0].astype(np.float64) / 255
    np.testing.assert_allclose(resident.mean.flatten(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(resident.std.flatten(), pixels.std((0, 2, 3)), rtol=1e-6)


def test_a_constant_channel_stays_finite():
    parts = given()[1]
    parts[0][:, 1] = 7
    resident = load(Data.given(parts))
    inputs = resident.batch(resident.train, torch.arange(40)).inputs
    assert inputs.isfinite().all()
    assert inputs[:, 1].abs().max() < 1e-6


class NoWaiting(TorchDispatchMode):
    """Fails on operations whose size or value the host must wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select}
        assert func.overloadpacket not in waits, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("augment", [None, CropFlip(2), Warp(10, 0.1, 1)], ids=repr)
def test_a_batch_waits_for_nothing(augment):
    resident = load(given(augment=augment)[0])
    rows, view = torch.arange(8), torch.zeros(8, dtype=torch.int64)
    with NoWaiting():
        resident.batch(resident.train, rows, view)
        resident.batch(resident.test, rows)
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        rows.max().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augment", [CropFlip(2), Warp(10, 0.1, 1)], ids=repr)
def test_a_gpu_draws_the_batch_a_cpu_draws_without_waiting(augment):
    here, there = (load(given(augment=augment)[0], device) for device in ("cpu", "cuda"))
    rows, view = torch.arange(40), torch.arange(40)
    there_rows, there_view = rows.cuda(), view.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = there.batch(there.train, there_rows, there_view)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # A pixel of Warp on the edge of rounding may fall to the other side: one grey level.
    bound = 1e-6 if isinstance(augment, CropFlip) else 1.01 / 255 / float(here.std.min())
    assert (drawn.inputs.cpu() - here.batch(here.train, rows, view).inputs).abs().max() <= bound
