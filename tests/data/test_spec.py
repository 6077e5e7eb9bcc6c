import dataclasses
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from potstill.data import CropFlip, Data, content, load, names
from potstill.errors import UserError


def arrays(n=12, m=6, shape=(3, 8, 9), classes=3):
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (n, *shape)).astype(np.uint8),
        np.arange(n) % classes,
        rng.integers(0, 256, (m, *shape)).astype(np.uint8),
        np.arange(m) % classes,
    ]


def test_arrays_keep_their_values_in_every_accepted_form():
    x, y, tx, ty = arrays()
    want = torch.from_numpy(x)
    forms = [
        (x, y, tx, ty),
        (torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(tx), torch.from_numpy(ty)),
        (x.transpose(0, 2, 3, 1), y.astype(np.uint8), tx.transpose(0, 2, 3, 1), ty.astype(np.int32)),
        (np.flip(np.flip(x, 3).copy(), 3), y.astype(">i4"), tx, ty),
    ]
    for form in forms:
        data = Data.given(form)
        assert data.arrays is not None
        assert torch.equal(data.arrays.x_train, want)
        assert torch.equal(data.arrays.y_train, torch.from_numpy(y))
        assert content(data) == content(Data.given(forms[0]))
    assert load(Data.given(forms[0])).class_names == ("0", "1", "2")


def test_grey_images_need_no_channel_axis():
    x, y, tx, ty = arrays(shape=(8, 9))
    assert load(Data.given((x, y, tx, ty))).shape == (1, 8, 9)


@pytest.mark.parametrize(
    ("shape", "channels_first"),
    [
        ((3, 32, 48), (3, 32, 48)),
        ((32, 48, 3), (3, 32, 48)),
        ((1, 4, 4), (1, 4, 4)),
        ((4, 4, 1), (1, 4, 4)),
        ((13, 16, 16), (13, 16, 16)),
        ((16, 16, 13), (13, 16, 16)),
        ((3, 2, 2), (3, 2, 2)),
        ((2, 2, 3), (3, 2, 2)),
    ],
)
def test_the_channel_axis_is_found_where_it_cannot_be_mistaken(shape, channels_first):
    assert load(Data.given(arrays(shape=shape))).shape == channels_first


@pytest.mark.parametrize("shape", [(3, 32, 3), (3, 3, 3), (1, 28, 3), (7, 8, 9)])
def test_a_channel_axis_that_could_be_either_is_refused(shape):
    with pytest.raises(UserError, match=r"could be \(N, C, H, W\) or \(N, H, W, C\)"):
        Data.given(arrays(shape=shape))


def test_floats_are_used_as_they_are():
    x, y, tx, ty = arrays()
    floats = [(x / 7 - 3).astype(np.float64), y, (tx / 7 - 3).astype(np.float32), ty]
    resident = load(Data.given(floats))
    batch = resident.batch(resident.train, torch.arange(12))
    assert torch.equal(batch.inputs, torch.from_numpy(floats[0].astype(np.float32)))


def test_the_users_arrays_are_copied_and_content_follows_every_part():
    parts = arrays()
    data = Data.given(parts)
    before = content(data)
    parts[0][0, 0, 0, 0] ^= 1
    assert load(data).name == "given"
    seen = {before}
    for part in range(4):
        altered = arrays()
        altered[part].flat[1] = (altered[part].flat[1] + 1) % 3
        seen.add(content(Data.given(altered)))
    seen.add(content(Data.given(arrays(), class_names=("a", "b", "c", "d"))))
    seen.add(content(Data.given([part.astype(np.float32) if part.ndim > 1 else part for part in arrays()])))
    assert len(seen) == 7


class Items:
    """A map-style data set."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, position):
        item = self.items[position]
        return item() if callable(item) else item


def test_a_pair_of_data_sets_equals_its_arrays():
    x, y, tx, ty = arrays()
    want = content(Data.given((x, y, tx, ty)))
    tensors = TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), TensorDataset(*map(torch.from_numpy, (tx, ty)))
    assert content(Data.given(tensors)) == want
    pictures = [
        Items([(Image.fromarray(image.transpose(1, 2, 0)), int(label)) for image, label in zip(xs, ys, strict=True)])  # pyright: ignore[reportCallIssue]
        for xs, ys in ((x, y), (tx, ty))
    ]
    assert content(Data.given(pictures)) == want
    grey = [
        Items([(Image.fromarray(image), 0), (Image.fromarray(image.copy()), np.int64(1))]) for image in (x[0, 0],) * 2
    ]
    assert load(Data.given(grey)).shape == (1, 8, 9)


def pictures_of(*items):
    return Items(list(items)), Items(list(items))


IMAGE = torch.zeros(3, 8, 8, dtype=torch.uint8)
NOISE = iter(range(1, 10**9))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (pictures_of(), "The train data set is empty; give at least one"),
        (
            pictures_of((IMAGE, 0), (IMAGE[:, :4], 1)),
            r"Item 1 of the train data set is \(3, 4, 8\) uint8 and item 0 is ",
        ),
        (
            pictures_of((IMAGE, 0), (IMAGE.float(), 1)),
            r"Item 1 of the train data set is \(3, 8, 8\) float32 and item 0",
        ),
        (pictures_of((IMAGE, 0.5)), "The label of item 0 of the train data set is 0.5; give an integer, its class."),
        (pictures_of((IMAGE, True)), "The label of item 0 of the train data set is True; give an integer"),
        (pictures_of(IMAGE), r"Item 0 of the train data set is a Tensor; give \(image, label\) pairs."),
        (pictures_of({"image": IMAGE, "label": 0}), "Item 0 of the train data set is a dict; give "),
        (
            pictures_of(("a.png", 0)),
            "The image of item 0 of the train data set is a str; give a PIL image, a tensor or",
        ),
        (pictures_of((Image.new("P", (8, 8)), 0)), "is a PIL image of mode P; convert it to L, RGB or RGBA."),
        (
            pictures_of(lambda: (torch.full((3, 8, 8), next(NOISE) % 256, dtype=torch.uint8), 0)),
            "Item 0 of the train data set is another image when read again; leave random transforms out",
        ),
    ],
)
def test_data_sets_that_do_not_fit_are_refused_in_a_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence):
        Data.given(given)


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(UserError, match="The train data set is a Stream without a length; give a map-style data set"):
        Data.given((Stream(), Stream()))


def changed(**parts):
    keys = ("x_train", "y_train", "x_test", "y_test")
    return tuple(parts.get(key, np.asarray)(part) for key, part in zip(keys, arrays(), strict=True))


def spoiled(value):
    def spoil(x):
        x = x.astype(np.float32)
        x[1, 0, 2, 2] = value
        return x

    return spoil


def as_float(x):
    return x.astype(np.float32)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            changed(y_train=lambda y: y - 1),
            "The train labels go down to -1; give classes counted from 0.",
        ),
        (
            changed(y_test=lambda y: y + 1),
            "The test labels go up to 3 but the training labels end at 2; give labels from 0 to 2.",
        ),
        (changed(y_train=lambda y: y * 0, y_test=lambda y: y * 0), "All labels are 0; give at least two classes."),
        (changed(y_train=lambda y: y * 0.5), "The train labels are float64; give integers, the class of each image."),
        (changed(y_test=lambda y: y > 0), "The test labels are bool; give integers"),
        (changed(y_train=lambda y: y[:-1]), r"There are 12 train images but the train labels have shape \(11,\)"),
        (
            changed(y_train=lambda y: np.eye(3, dtype=int)[y]),
            r"train labels have shape \(12, 3\); give one integer per",
        ),
        (
            changed(x_train=lambda x: x[:0], y_train=lambda y: y[:0]),
            "train images have shape .*; give at least one image",
        ),
        (
            changed(x_test=lambda x: x[:, :, :4]),
            r"train images are \(3, 8, 9\) uint8 and the test images \(3, 4, 9\) uint8;",
        ),
        (
            changed(x_test=as_float),
            r"train images are \(3, 8, 9\) uint8 and the test images \(3, 8, 9\) float32; give both",
        ),
        (changed(x_train=spoiled(np.nan), x_test=as_float), "The train images hold NaN or infinite values"),
        (changed(x_train=as_float, x_test=spoiled(np.inf)), "The test images hold NaN or infinite values"),
        (
            changed(x_train=lambda x: x.astype(np.int64)),
            "The train images are int64; give uint8 from 0 to 255, or float",
        ),
        (changed(x_train=lambda x: x[0, 0]), r"The train images have shape \(8, 9\); give at least one image, as"),
        (changed(x_train=lambda x: x.tolist()), "The train images are a list; give a NumPy array or a tensor."),
        (changed()[:3], r"Data.given was given 3 parts; give \(x_train, y_train, x_test, y_test\), or a pair"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_a_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence):
        Data.given(given)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Data(name="digits", validation=1.0), "validation=1.0; give a share from 0 to below 1."),
        (lambda: Data(name="digits", validation=-0.1), "validation=-0.1; give a share from 0 to below 1."),
        (lambda: Data(name="digits", views=0), "views=0; give at least 1 view per image, or None for all."),
        (lambda: Data(name="digits", sharing="all"), "sharing='all'; give 'shared' or 'per-seed'."),  # pyright: ignore
        (
            lambda: Data(name="cifar-1000"),
            "There is no data set named 'cifar-1000'; did you mean 'cifar100' or 'cifar10'",
        ),
        (
            lambda: Data(name="zzz"),
            "no data set named 'zzz'; give one of digits, mnist, fashion_mnist, cifar10, cifar100.",
        ),
        (lambda: Data.given(arrays(), name="mnist"), "'mnist' is the name of a published set; give your own arrays an"),
        (
            lambda: Data.given(arrays(), class_names=("a", "b")),
            "train labels go up to 2 but there are 2 class names; give labels from 0 to 1.",
        ),
        (
            lambda: load(Data.given(arrays(), validation=0.01)),
            "validation=0.01 of 12 training images of 'given' is 0 im",
        ),
        (
            lambda: load(Data(name="mine", content="0" * 64)),
            "The arrays of 'mine' are not kept in a record; give them ag",
        ),
        (
            lambda: load(Data(name="digits", content="0" * 64)),
            "'digits' have content 7e77c8e870c3, but 000000000000 was",
        ),
        (lambda: load(Data.given(arrays(), augment=CropFlip(8))), "give a padding below 8."),
    ],
)
def test_specs_that_cannot_be_are_refused_in_a_sentence(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


def test_data_is_plain_frozen_data():
    data = Data(name="cifar100", validation=0.1, augment=CropFlip(), views=8)
    assert data == Data(name="cifar100", validation=0.1, augment=CropFlip(), views=8)
    assert hash(data) == hash(pickle.loads(pickle.dumps(data)))
    assert data != dataclasses.replace(data, augment=CropFlip(padding=2))
    given = Data.given(arrays())
    assert given == dataclasses.replace(given, arrays=None)
    assert "arrays" not in repr(given)
    assert content(pickle.loads(pickle.dumps(given))) == content(given)


def test_the_content_of_a_named_set_is_known_without_loading():
    assert len({content(Data(name=name)) for name in names()}) == len(names())
