"""What can happen to a store: nothing wrong is ever served, and nothing right is lost."""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import quick
import tiny
from kills import KILLED, Nursery

from potstill.store.rows import PAGE, Rows
from potstill.store.stock import stocks
from potstill.store.storage import Storage
from potstill.teachers import Untrained

ROOM = 2**30


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as ready:
        yield ready


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cases leave without a store."""
    folder = tmp_path_factory.mktemp("whole")
    return {case: only(tiny.train_in(folder / case, tiny.CASES[case]())) for case in ("stored", "augmented", "shown")}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that a training filled."""
    folder = tmp_path_factory.mktemp("filled")
    tiny.train_in(folder, tiny.CASES["stored"](), store=ROOM)
    return folder / "store"


def only(folders: list[Path]) -> dict[str, Any]:
    (folder,) = folders
    return tiny.told(folder)


def beside(runs_dir: Path) -> dict[str, Any]:
    """What the training left in a folder of runs with a store."""
    return only([path.parent for path in runs_dir.glob("*/result.json")])


def held(root: Path) -> dict[str, int]:
    """Whole rows of the only store."""
    (stock,) = stocks(root)
    return {f"{each.split} {each.kind}".strip(): each.rows for each in stock.held}


FULL = {"train": 3 * 1040, "validation": 260, "test": 20}
SHOWN = {f"{split} {kind}": FULL[split] for split in ("train", "validation") for kind in ("pooled", "stage1.pre")}


@pytest.mark.parametrize("case", quick.only(["shown"], ["stored", "augmented", "shown"]))
def test_a_kill_in_the_middle_of_a_write_loses_that_write_only(
    case: str, tmp_path: Path, nursery: Nursery, whole: dict[str, Any]
):
    rows = [0]
    stride = {"stored": 1, "augmented": 19, "shown": 4}[case]
    while nursery.train(case, tmp_path, kill="store", at=1 + len(rows) % 3 * stride, pause=1e9, store=ROOM) == KILLED:
        made = list(tmp_path.glob("store/*/about.json"))
        rows.append(sum(held(tmp_path / "store").values()) if made else 0)
        assert rows[-1] >= rows[-2]
        assert len(rows) < 100
    assert len(rows) > 4
    assert {**beside(tmp_path), "resumed": []} == whole[case]
    if case != "augmented":
        assert held(tmp_path / "store") == (FULL if case == "stored" else FULL | SHOWN)


@pytest.mark.parametrize("case", quick.only(["stored"], ["stored", "shown"]))
def test_two_processes_fill_one_store_at_once(case: str, tmp_path: Path, nursery: Nursery, whole: dict[str, Any]):
    places = [tmp_path / "one", tmp_path / "two"]
    (tmp_path / "store").mkdir()
    for place in places:
        place.mkdir()
        (place / "store").symlink_to(tmp_path / "store")
    with Nursery() as other, ThreadPoolExecutor(2) as pool:
        both = zip((nursery, other), places, strict=True)
        ends = [pool.submit(each.train, case, place, pause=1e9, store=ROOM) for each, place in both]
        assert [end.result() for end in ends] == [0, 0]
    assert [beside(place) for place in places] == [whole[case]] * 2
    assert held(tmp_path / "store") == (FULL if case == "stored" else FULL | SHOWN)


@pytest.mark.parametrize("largest", [14_000, 40_000, 78_000])
def test_a_file_that_cannot_grow_ends_the_filling_and_not_the_training(
    largest: int, tmp_path: Path, nursery: Nursery, whole: dict[str, Any]
):
    """The file about training images wants 79,000 bytes, every other one of the folder less than 14,000."""
    assert nursery.train("stored", tmp_path, pause=1e9, store=ROOM, largest=largest) == 0
    assert beside(tmp_path) == whole["stored"]
    # Whole chunks, and the part of the next that there was room for.
    assert held(tmp_path / "store") == {"validation": 260, "train": (largest - PAGE) // 24}
    again = tmp_path / "again"
    again.mkdir()
    (again / "store").symlink_to(tmp_path / "store")
    assert nursery.train("stored", again, pause=1e9, store=ROOM) == 0
    assert held(tmp_path / "store") == FULL


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_ends_the_filling_and_not_the_training(
    small: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    # Otherwise half of what is free would be too little from the beginning.
    monkeypatch.setattr(Storage, "room", lambda self: ROOM)
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    (runs_dir / "store").symlink_to(small)
    lines = tiny.Lines()
    assert only(tiny.train_in(runs_dir, tiny.CASES["stored"](), store=ROOM, display=lines)) == whole["stored"]
    (stock,) = stocks(small)
    assert [line for line in lines.said if "store" in line] == [
        f"The store {runs_dir / 'store' / stock.folder.name} cannot be written any more (No space left on device); "
        "the training goes on without."
    ]
    assert 1040 <= held(small)["train"] < FULL["train"]


def damaged(filled: Path, runs_dir: Path, damage: Callable[[Path], None]) -> tuple[dict[str, Any], list[str]]:
    """What a training leaves, and says, whose store's files were damaged."""
    runs_dir.mkdir(exist_ok=True)
    shutil.copytree(filled, runs_dir / "store")
    for path in runs_dir.glob("store/*/*.rows"):
        damage(path)
    lines = tiny.Lines()
    return only(tiny.train_in(runs_dir, tiny.CASES["stored"](), store=ROOM, display=lines)), lines.said


def _cut(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(PAGE + (path.stat().st_size - PAGE) // 3 + 5)


def _vanish(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    """A bit in every hundredth row."""
    content = bytearray(path.read_bytes())
    for place in range(PAGE + 5, len(content), 2400):
        content[place] ^= 16
    path.write_bytes(content)


def _swap(path: Path) -> None:
    """The first ten rows and the next ten, each in the others' place."""
    content = path.read_bytes()
    one, two, rest = content[PAGE : PAGE + 240], content[PAGE + 240 : PAGE + 480], content[PAGE + 480 :]
    path.write_bytes(content[:PAGE] + two + one + rest)


def _repeat(path: Path) -> None:
    """Every row is the first."""
    content = path.read_bytes()
    rows = (len(content) - PAGE) // 24
    path.write_bytes(content[:PAGE] + content[PAGE : PAGE + 24] * rows)


def _blank(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:PAGE].ljust(path.stat().st_size, b"\0"))


@pytest.mark.parametrize("damage", [_cut, _vanish, _empty, _flip, _swap, _repeat, _blank])
def test_damaged_rows_are_computed_and_written_again(
    damage: Callable[[Path], None], filled: Path, tmp_path: Path, whole: dict[str, Any]
):
    told, said = damaged(filled, tmp_path, damage)
    assert told == whole["stored"]
    assert not any(line.startswith("The store") for line in said)
    assert held(tmp_path / "store") == FULL
    for path in filled.glob("*/*.rows"):
        assert (tmp_path / "store" / path.relative_to(filled)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("case", quick.only(["stored"], ["stored", "shown"]))
def test_another_process_serves_nothing_that_was_damaged_or_is_anothers(
    case: str, tmp_path: Path, nursery: Nursery, whole: dict[str, Any]
):
    assert nursery.train(case, tmp_path / "first", pause=1e9, store=ROOM) == 0
    first = {path.relative_to(tmp_path / "first"): path.read_bytes() for path in tmp_path.glob("first/store/*/*.rows")}
    foreign = replace(tiny.CASES[case]()[0], teacher=tiny.teacher(tiny.linear_teacher(0.07)))
    if case == "shown":
        foreign = replace(foreign, teacher=Untrained(tiny.convolutional(), seed=1))
    tiny.train_in(tmp_path / "foreign", [foreign], store=ROOM)
    others = {path.name: path for path in tmp_path.glob("foreign/store/*/*.rows")}

    def take(path: Path) -> None:
        shutil.copy(others[path.name], path)

    for damage in (_cut, _flip, take):
        runs_dir = tmp_path / damage.__name__
        runs_dir.mkdir()
        shutil.copytree(tmp_path / "first" / "store", runs_dir / "store")
        for path in runs_dir.glob("store/*/*.rows"):
            damage(path)
        assert nursery.train(case, runs_dir, pause=1e9, store=ROOM) == 0
        assert beside(runs_dir) == whole[case]
        for name, content in first.items():
            assert (runs_dir / name).read_bytes() == (others[name.name].read_bytes() if damage is take else content)


def _garble(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"no")


@pytest.mark.parametrize("foreign", ["file", "head", "folder"])
def test_another_teachers_file_is_not_served_and_not_touched(
    foreign: str, filled: Path, tmp_path: Path, whole: dict[str, Any]
):
    """Under this teacher's key lie another's rows of the same size, or a file that does not say what it is."""
    given = replace(tiny.CASES["stored"]()[0], teacher=tiny.teacher(tiny.linear_teacher(0.07)))
    tiny.train_in(tmp_path / "other", [given], store=ROOM)
    (others,) = (tmp_path / "other" / "store").iterdir()

    def put(path: Path) -> None:
        if foreign == "head":
            _garble(path)
        else:
            shutil.copy(others / path.name, path)
            if foreign == "folder":
                shutil.copy(others / "about.json", path.parent)

    told, said = damaged(filled, tmp_path / "runs", put)
    assert told == whole["stored"]
    (folder,) = (tmp_path / "runs" / "store").iterdir()
    (sentence,) = [line for line in said if "store" in line]
    (validation,) = folder.glob("validation-*.rows")
    assert sentence == (
        f"The store {folder} holds a file that is not its own, {validation.name}; it is left alone and the teacher "
        f"answers live: `potstill cache --drop {folder.name[-12:]}` removes it."
    )
    for path in folder.glob("*.rows"):
        if foreign != "head":
            assert path.read_bytes() == (others / path.name).read_bytes()


def test_a_store_that_is_removed_while_it_is_used_is_done_without(
    filled: Path, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(filled, tmp_path / "store")
    for path in tmp_path.glob("store/*/train-*.rows"):
        _empty(path)
    kept = Rows.write
    count = itertools.count()

    def write(self: Rows, places: Any, values: Any) -> None:
        if next(count) == 4:
            shutil.rmtree(tmp_path / "store")
        kept(self, places, values)

    monkeypatch.setattr(Rows, "write", write)
    lines = tiny.Lines()
    assert only(tiny.train_in(tmp_path, tiny.CASES["stored"](), store=ROOM, display=lines)) == whole["stored"]
    assert lines.said[-1].endswith(
        "cannot be written any more (No such file or directory); the training goes on without."
    )
