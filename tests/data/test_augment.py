import math

import numpy as np
import pytest
import torch

from potstill.data import CropFlip, Warp
from potstill.errors import UserError


def crop_flip_by_hand(image: np.ndarray, view: int, p: int, flip: bool) -> np.ndarray:
    """One window of one zero-bordered image, pixel by pixel."""
    _, h, w = image.shape
    mirrored = flip and view % 2 == 1
    row, column = divmod(view // 2 if flip else view, 2 * p + 1)
    out = np.zeros_like(image)
    for y in range(h):
        for x in range(w):
            source_y, source_x = y + row - p, (w - 1 - x if mirrored else x) + column - p
            if 0 <= source_y < h and 0 <= source_x < w:
                out[:, y, x] = image[:, source_y, source_x]
    return out


@pytest.mark.parametrize(
    ("padding", "flip", "shape", "views"),
    [(4, True, (3, 32, 32), 162), (2, False, (1, 8, 8), 25), (1, True, (2, 5, 7), 18), (0, True, (3, 4, 4), 2)],
)
def test_every_view_of_crop_flip_is_the_window_computed_by_hand(padding, flip, shape, views):
    augment = CropFlip(padding, flip)
    assert augment.count(shape) == views
    image = torch.randint(1, 256, (1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = augment(image.expand(views, *shape), torch.arange(views)).numpy()
    for view in range(views):
        np.testing.assert_array_equal(got[view], crop_flip_by_hand(image[0].numpy(), view, padding, flip))
    assert len({part.tobytes() for part in got}) == views


@pytest.mark.parametrize("augment", [CropFlip(2), CropFlip(1, flip=False), Warp(20, 0.2, 1.5)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_an_augmentation_is_pure_and_treats_each_image_alone(augment, dtype):
    torch.manual_seed(0)
    images = (torch.rand(12, 3, 9, 8) * 255).to(dtype)
    view = torch.randint(0, augment.count((3, 9, 8)), (12,))
    kept, kept_view, state = images.clone(), view.clone(), torch.get_rng_state()
    once = augment(images, view)
    assert once.dtype == dtype
    assert once.shape == images.shape
    assert torch.equal(augment(images, view), once)
    assert torch.equal(images, kept)
    assert torch.equal(view, kept_view)
    assert torch.equal(torch.get_rng_state(), state)
    order = torch.randperm(12)
    assert torch.equal(augment(images[order], view[order]), once[order])
    alone = torch.cat([augment(images[k : k + 1], view[k : k + 1]) for k in range(12)])
    torch.testing.assert_close(alone, once)


def splitmix(x: int) -> int:
    """The published mixing function on Python's own integers."""
    x = (x * 0x9E3779B97F4A7C15) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    return ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64


def warp_by_hand(image: np.ndarray, view: int, warp: Warp) -> np.ndarray:
    """Each output pixel looked up bilinearly where the inverse of rotate, resize, shift leads, in float64."""
    draws = [(splitmix(view * 4 + k + 1) >> 40) % 2**24 / 2**23 - 1 for k in range(4)]
    angle, size = math.radians(draws[0] * warp.rotation), 1 + draws[1] * warp.scale
    _, h, w = image.shape
    out = np.zeros(image.shape)
    for y in range(h):
        for x in range(w):
            v = (y - (h - 1) / 2 - draws[2] * warp.shift) / size
            u = (x - (w - 1) / 2 - draws[3] * warp.shift) / size
            source_x = math.cos(angle) * u + math.sin(angle) * v + (w - 1) / 2
            source_y = -math.sin(angle) * u + math.cos(angle) * v + (h - 1) / 2
            for yy in (math.floor(source_y), math.floor(source_y) + 1):
                for xx in (math.floor(source_x), math.floor(source_x) + 1):
                    if 0 <= yy < h and 0 <= xx < w:
                        share = (1 - abs(source_y - yy)) * (1 - abs(source_x - xx))
                        out[:, y, x] += share * image[:, yy, xx]
    return out


@pytest.mark.parametrize("warp", [Warp(rotation=30), Warp(scale=0.3), Warp(shift=2), Warp(15, 0.1, 1.5)], ids=repr)
def test_warp_is_the_rotation_size_and_shift_computed_by_hand(warp):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 2, 7, 10)).astype(np.uint8)
    views = [0, 1, 2, 2**31 - 1, 2**31 - 2, 12345]
    want = np.stack([warp_by_hand(i.astype(np.float64), v, warp) for i, v in zip(images, views, strict=True)])
    exact = warp(torch.from_numpy(images.astype(np.float32)), torch.tensor(views)).numpy()
    np.testing.assert_allclose(exact, want, atol=0.02)
    rounded = warp(torch.from_numpy(images), torch.tensor(views)).numpy()
    assert np.abs(rounded - want).max() < 0.53


def test_warp_draws_its_amounts_uniformly():
    # One bright pixel in the middle: where it goes tells the shift. A 41-pixel image, shifts up to 10.
    image = torch.zeros(1, 1, 41, 41)
    image[0, 0, 20, 20] = 1
    out = Warp(shift=10)(image.expand(2000, 1, 41, 41), torch.arange(2000))
    place = torch.arange(41.0) - 20
    down, right = (out.sum((1, 3)) * place).sum(1), (out.sum((1, 2)) * place).sum(1)
    for drawn in (down, right):
        share = torch.histc(drawn, 10, -10, 10) / 2000
        assert (share - 0.1).abs().max() < 0.03
    assert abs(torch.corrcoef(torch.stack((down, right)))[0, 1]) < 0.08


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CropFlip(-1), "CropFlip was given padding=-1; give a number of pixels of at least 0."),
        (lambda: CropFlip(8).count((1, 8, 9)), r"CropFlip\(padding=8\) would push images of 8 by 9 pixels wholly out"),
        (lambda: Warp(), "Warp was given neither rotation, scale nor shift; give at least one of them above 0."),
        (lambda: Warp(rotation=181), "Warp was given rotation=181; give degrees from 0 to 180."),
        (lambda: Warp(scale=1.0), r"Warp was given scale=1.0; give a share from 0 to 0.99."),
        (lambda: Warp(shift=-0.5), r"Warp was given shift=-0.5; give pixels from 0 to 10000."),
        (lambda: Warp(shift=math.nan), "Warp was given shift=nan; give pixels from 0 to 10000."),
        (lambda: Warp(shift=9).count((1, 8, 12)), r"Warp\(shift=9\) would push images of 8 by 12 pixels wholly out"),
    ],
)
def test_amounts_out_of_range_are_refused_in_a_sentence(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()
