import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import quick
import torch

from potstill.data import Data, content, info, load, names
from potstill.data.sources import read, root
from potstill.errors import UserError

# A listening service there would have to speak HTTP proxy; the discard port does not.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty data folder, and a proxy that refuses every connection."""
    monkeypatch.setenv("POTSTILL_DATA", str(tmp_path / "data"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def need(name):
    folder = Path(os.environ.get("POTSTILL_DATA", "")) / info(name).folder
    if not os.environ.get("POTSTILL_DATA") or not folder.is_dir():
        pytest.skip(f"POTSTILL_DATA names no folder that holds {info(name).folder}")
    return folder


# Images of each class, as published; MNIST's are uneven.
PER_CLASS = {
    "digits": ([118, 122, 117, 123, 121, 122, 121, 119, 114, 120], [60] * 10),
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion_mnist": ([6000] * 10, [1000] * 10),
    "cifar10": ([5000] * 10, [1000] * 10),
    "cifar100": ([500] * 100, [100] * 100),
}


@pytest.mark.parametrize("name", quick.only(["digits", "fashion_mnist"], names()))
def test_a_named_set_is_the_published_one(name):
    if name != "digits":
        need(name)
    known = info(name)
    # Loading compares the content with the constant.
    resident = load(Data(name=name))
    assert (len(resident.train), len(resident.test)) == (known.train, known.test)
    assert resident.shape == known.shape
    assert resident.classes == len(resident.class_names) == known.classes
    assert len(set(resident.class_names)) == known.classes
    for split, per_class in zip((resident.train, resident.test), PER_CLASS[name], strict=True):
        assert split.images.dtype == torch.uint8
        assert split.labels.bincount().tolist() == per_class
        assert split.index.tolist() == list(range(len(split)))
    pixels = resident.train.images.double() / 255
    # CIFAR-100's constants are the field's, which differ from its true moments in the fourth digit.
    np.testing.assert_allclose(known.mean, pixels.mean((0, 2, 3)), atol=3e-4)
    np.testing.assert_allclose(known.std, pixels.std((0, 2, 3)), atol=3e-4)


def test_cifar_names_and_pixels_are_in_place():
    need("cifar10")
    resident = load(Data(name="cifar10"))
    assert resident.class_names[:3] == ("airplane", "automobile", "bird")
    # The first published training image is a frog, whose first pixel is (59, 62, 63).
    assert resident.class_names[int(resident.train.labels[0])] == "frog"
    assert resident.train.images[0, :, 0, 0].tolist() == [59, 62, 63]


def test_digits_are_every_image_of_scikit_learn_once():
    resident = load(Data(name="digits"))
    assert int(resident.train.images.max()) == 240
    assert bool((resident.train.images % 15 == 0).all())
    from sklearn.datasets import load_digits

    published = (load_digits(return_X_y=True)[0].reshape(-1, 8, 8) * 15).astype(np.uint8)
    ours = torch.cat((resident.train.images, resident.test.images)).numpy()[:, 0]
    assert sorted(image.tobytes() for image in ours) == sorted(image.tobytes() for image in published)


def test_an_absent_set_without_a_network_says_where_it_was_looked_for(offline):
    with pytest.raises(UserError) as caught:
        load(Data(name="cifar100"))
    sentence = str(caught.value)
    assert sentence.startswith(f"CIFAR-100 is not in {offline / 'cifar-100-python'} and could not be downloaded (")
    assert sentence.endswith("set POTSTILL_DATA to a folder that holds cifar-100-python/, or run once with a network.")
    assert "\n" not in sentence
    assert list(offline.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(
        UserError, match=r"CIFAR-10 is not in .* and could not be downloaded \(.*; set POTSTILL_DATA to"
    ):
        read("cifar10")


def test_files_that_are_cut_short_are_not_believed(offline):
    raw = offline / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{stem}-ubyte").write_bytes(b"\x00\x00\x08\x03")
    with pytest.raises(UserError, match=r"The files of 'mnist' in .*MNIST are incomplete or damaged \(.*; delete that"):
        load(Data(name="mnist"))


def test_files_of_other_content_are_not_believed(offline):
    raw = offline / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        sizes = b"".join(side.to_bytes(4, "big") for side in (20, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03" + sizes + bytes(20 * 28 * 28))
        labels = bytes(k % 10 for k in range(20))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01" + sizes[:4] + labels)
    expected = content(Data(name="mnist"))[:12]
    with pytest.raises(UserError, match=f"but {expected} was expected; delete its files under .*data so that they are"):
        load(Data(name="mnist"))


def test_the_folder_is_the_environments_or_the_users_cache(monkeypatch):
    monkeypatch.setenv("POTSTILL_DATA", "~/sets")
    assert root() == Path.home() / "sets"
    monkeypatch.delenv("POTSTILL_DATA")
    assert root() == Path.home() / ".cache" / "potstill"


def test_neither_torchvision_nor_sklearn_is_imported_before_a_set_is_loaded():
    code = (
        "import sys, potstill.data as d; d.info('cifar100'); d.content(d.Data(name='digits')); "
        "sys.exit(any(name in sys.modules for name in ('torchvision', 'sklearn', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
