"""The teacher's store: it spares the teacher every pass, and no bit of a student depends on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import quick
import tiny
from stores import BATCH, CONVOLUTIONAL, ROOM, featured, shifted, soft
from torch import Tensor, nn

from potstill import methods
from potstill.data import Views, Warp, load
from potstill.data.order import SHARED
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.reading import Reading
from potstill.record import Record
from potstill.run import Run
from potstill.store import kept
from potstill.store.kept import CHUNK
from potstill.store.stock import stocks
from potstill.store.storage import Storage, size_of, told_size
from potstill.teachers import Ensemble, Given, Sampled, source
from potstill.teachers.source import Live

SHOWN: dict[str, Callable[[], list[Run]]] = {
    "still": lambda: [soft(data=tiny.data(train=1300), **BATCH)],
    "shared": lambda: [soft(**BATCH)],
    "bf16": lambda: [soft(precision="bf16", **BATCH)],
    "some views": lambda: [soft(data=shifted(views=2), **BATCH)],
    "per seed": lambda: [soft(data=shifted(sharing="per-seed"), **BATCH)],
    "endless, some views": lambda: [soft(data=shifted(augment=Warp(rotation=10), views=2), **BATCH)],
    "pairs": lambda: [soft(data=shifted(companion="view"), **BATCH)],
    "tapped": lambda: [soft(terms=(KD(), tiny.Hint()), **BATCH)],
    "maps and vectors": lambda: [featured(**BATCH)],
    "maps and vectors in bf16": lambda: [featured(precision="bf16", **BATCH)],
    "maps of pairs": lambda: [featured(data=shifted(companion="view"), **BATCH)],
    "maps without views": lambda: [featured(data=tiny.data(train=1300), **BATCH)],
    "maps per seed": lambda: [featured(data=shifted(sharing="per-seed"), **BATCH)],
    "maps of an ensemble": lambda: [
        soft(
            teacher=Ensemble((tiny.teacher(), CONVOLUTIONAL)), terms=(KD(), tiny.Hint(teacher_tap="1/stage1")), **BATCH
        )
    ],
    "maps in company": lambda: [featured(**BATCH), soft("other", teacher=CONVOLUTIONAL, **BATCH)],
    "drawn classes": lambda: [soft(teacher=Sampled(right=tiny.teacher(), draws=3), **BATCH)],
    "drawn classes of pairs": lambda: [
        soft(data=shifted(companion="view"), teacher=Sampled(right=tiny.teacher(), draws=3), **BATCH)
    ],
    "judged on training images": lambda: [soft(data=replace(shifted(), validation=0.0), **BATCH)],
    "ensemble": lambda: [soft(teacher=Ensemble((tiny.teacher(), CONVOLUTIONAL)), **BATCH)],
    "two": lambda: [soft(**BATCH), soft("other", terms=(methods.DKD(),), **BATCH)],
}

QUICK = ["maps and vectors", "maps in company", "drawn classes of pairs", "endless, some views"]


@pytest.mark.parametrize("case", quick.only(QUICK, SHOWN))
def test_no_bit_depends_on_what_a_store_holds(case: str, tmp_path: Path, made: list[Live]):
    runs = SHOWN[case]()
    without = [tiny.told(folder) for folder in tiny.train_in(tmp_path / "without", runs)]
    asked = sum(live.passes for live in made)
    made.clear()
    filling = [tiny.told(folder) for folder in tiny.train_in(tmp_path / "filling", runs, store=ROOM)]
    assert filling == without
    assert sum(live.passes for live in made) == asked
    assert sum(live.checks for live in made) == 0
    made.clear()
    (tmp_path / "filling" / "store").rename(tmp_path / "store")
    for place, cut in (("filled", None), ("halved", 0.5), ("emptied", 0.0)):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "store").symlink_to(tmp_path / "store")
        for path in (tmp_path / "store").glob("*/*.rows"):
            if cut is not None:
                with open(path, "r+b") as file:
                    file.truncate(int(4096 + (path.stat().st_size - 4096) * cut) if cut else 0)
        assert [tiny.told(each) for each in tiny.train_in(folder, runs, store=ROOM)] == without
        passes = sum(live.passes for live in made)
        if cut is None:
            assert passes == 0
            assert 3 <= sum(live.checks for live in made) <= 7
        else:
            # Of a walk of its own some rows of every chunk are missing.
            assert (0 < passes < asked) if cut and "per seed" not in case else passes == asked
        made.clear()


def test_a_second_sweep_with_other_seeds_and_another_method_makes_no_pass(tmp_path: Path, made: list[Live]):
    first = [soft(seed=seed, **BATCH) for seed in (0, 1)]
    other = [soft("other", terms=(methods.DKD(), Labels()), seed=seed, batch_size=64) for seed in (2, 3)]
    for run in first:
        tiny.train_in(tmp_path, [run], store=ROOM)
    # 260 validation images, 1,040 training images in each of three views, 20 test images.
    assert [(live.passes, live.checks) for live in made] == [(1 + 3 * 3 + 1, 0), (0, 3)]
    made.clear()
    lines = tiny.Lines()
    folders = [tiny.train_in(tmp_path, [run], store=ROOM, display=lines)[0] for run in other]
    assert [(live.passes, live.checks) for live in made] == [(0, 3), (0, 3)]
    (stock,) = stocks(tmp_path / "store")
    assert lines.said[0] == f"store: 260 of 260 answers are those of the live teacher ({stock.folder})"
    for folder in folders:
        result = Record(folder).result
        assert result is not None
        assert result["agreement"] is not None
        assert result["forwards_per_step"] == 2  # As if nothing had been stored.


def test_per_seed_walks_meet_in_the_same_rows(tmp_path: Path, made: list[Live]):
    # 18 views in 20 turns: the first seed shows all of them.
    runs = [soft(data=shifted(train=200, sharing="per-seed"), seed=seed, batch_size=40) for seed in (1, 2)]
    for run in runs:
        tiny.train_in(tmp_path, [run.lasting(20)], store=ROOM)
    tiny.train_in(tmp_path, [replace(runs[0], data=shifted(train=200)).lasting(20)], store=ROOM)
    assert [live.passes for live in made] == [1 + 18 + 1, 0, 0]


def test_the_place_of_a_view_is_where_the_walk_shows_it():
    import numpy as np

    index = np.arange(0, 4000, 7)
    for available in (2, 9, 18, 162, 2**31):
        walk = Views(SHARED, available, limit=available)
        for turn in (0, 1, available // 2, available - 1):
            assert (walk.places(index, walk.at(index, turn)) == turn).all()


@pytest.mark.parametrize("network", [None, "mixed"])
def test_rows_have_the_type_of_the_network_and_come_before_its_classes_are_named(tmp_path: Path, network: str | None):
    class Mixed(nn.Module):
        """Its classifier answers float32 whatever was asked for."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny.linear_teacher()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).float()

    module = tiny.linear_teacher() if network is None else Mixed()
    size = 2 if network is None else 4
    for place, classes in enumerate(((), (0, 1, 2, 3), (0, 1, -1, -1))):
        reading = Reading(classes=classes, known=4 if classes else 0)
        run = soft(precision="bf16", teacher=Given(Network.given(module, 4), reading), **BATCH)
        tiny.train_in(tmp_path, [replace(run, seed=place)], store=ROOM)
    (stock,) = stocks(tmp_path / "store")
    assert {held.split: held.rows for held in stock.held} == {"train": 3 * 1040, "validation": 260, "test": 20}
    heads = [json.loads(path.read_bytes()[:4096]) for path in stock.folder.glob("*.rows")]
    assert {head["dtype"] for head in heads} == {"bfloat16" if network is None else "float32"}
    sizes = sum(path.stat().st_size - 4096 for path in stock.folder.glob("*.rows"))
    assert sizes == (3 * 1040 + 260 + 20) * (4 * size + 8)


def test_what_may_change_a_bit_is_another_store(tmp_path: Path):
    def store(network: nn.Module, content: str = "a", reading: Reading | None = None, **machine: Any) -> Path:
        storage = Storage(tmp_path, ROOM, content, 1, print)
        return storage.open("teacher", network, reading, resident, Machine(**machine)).folder

    resident = load(tiny.data())
    plain = tiny.linear_teacher()
    folders = [
        store(plain),
        store(plain, "b"),
        store(tiny.linear_teacher(0.06)),
        store(plain, reading=Reading(size=16)),
        store(plain, precision="bf16"),
        store(plain, threads=2),
        store(plain, compile=True),
    ]
    assert len(set(folders)) == len(folders)
    assert store(tiny.linear_teacher(), reading=Reading(classes=(0, 1, 2, 3), known=4)) == folders[0]
    assert not any(folder.exists() for folder in folders)


def test_a_teacher_that_says_something_else_is_not_served_and_nothing_is_touched(tmp_path: Path, made: list[Live]):
    class Scaled(nn.Module):
        """What it says hangs on a number that is neither a weight nor in its source."""

        factor = 1.0

        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny.linear_teacher()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * Scaled.factor

    given = Given(Network.given(Scaled(), 4))
    tiny.train_in(tmp_path, [soft(teacher=given, **BATCH)], store=ROOM)
    kept = {path: path.read_bytes() for path in tmp_path.glob("store/*/*.rows")}
    Scaled.factor = 1.5
    lines = tiny.Lines()
    run = soft(teacher=given, seed=1, **BATCH)
    (served,) = tiny.train_in(tmp_path, [run], store=ROOM, display=lines)
    (live,) = tiny.train_in(tmp_path / "live", [run])
    assert tiny.told(served) == tiny.told(live)
    (folder,) = tmp_path.glob("store/*")
    refused = (
        f"The store {folder} holds other answers than its teacher gives (260 of 260 differ); it is left alone and the "
        f"teacher answers live: `potstill cache --drop {folder.name[-12:]}` removes it."
    )
    assert lines.said[0] == refused
    assert sum("store" in line for line in lines.said) == 1
    assert {path: path.read_bytes() for path in tmp_path.glob("store/*/*.rows")} == kept
    assert stocks(tmp_path / "store")[0].agreement == (0, 260)
    # Rows that stand beside missing ones are compared as well.
    for path in kept:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 1)
    lines.said.clear()
    (folder,) = tmp_path.glob("store/*")
    tiny.train_in(tmp_path / "again", [run])
    (tmp_path / "again" / "store").symlink_to(tmp_path / "store")
    (again,) = tiny.train_in(tmp_path / "again", [replace(run, seed=2)], store=ROOM, display=lines)
    assert "(259 of 259 differ)" in lines.said[0]
    assert made[-1].passes == 1 + 1 + 9 + 1  # The chunk that gave it away.
    assert tiny.told(again) == tiny.told(tiny.train_in(tmp_path / "last", [replace(run, seed=2)])[0])


def test_what_does_not_fit_is_told_and_not_stored(tmp_path: Path, made: list[Live]):
    lines = tiny.Lines()
    for seed in (1, 2):
        tiny.train_in(tmp_path, [soft(seed=seed, **BATCH)], store=32 * 2**10, display=lines)
    said = [line for line in lines.said if "take" in line]
    assert len(said) == 2
    assert said[0].startswith("The teacher's answers about 1,040 train images in 3 views take 73.1 KiB, more than the ")
    assert said[0].endswith(" KiB that --store and the disk leave; they are not stored.")
    (stock,) = stocks(tmp_path / "store")
    assert {held.split: held.rows for held in stock.held} == {"validation": 260, "test": 20}
    assert [live.passes for live in made] == [1 + 9 + 1, 9]


def test_a_store_in_a_place_that_cannot_be_written_is_done_without(tmp_path: Path):
    (tmp_path / "store").write_text("a file")
    lines = tiny.Lines()
    (folder,) = tiny.train_in(tmp_path, [soft(**BATCH)], store=ROOM, display=lines)
    assert tiny.told(folder) == tiny.told(tiny.train_in(tmp_path / "without", [soft(**BATCH)])[0])
    assert [line for line in lines.said if "store" in line] == [
        f"The store {next(iter(lines.said)).split()[2]} cannot be written any more (Not a directory); the training "
        "goes on without."
    ]


def test_turns_that_do_not_fit_the_memory_are_asked_again_with_the_same_bits(
    tmp_path: Path, made: list[Live], monkeypatch: pytest.MonkeyPatch
):
    run = soft(data=shifted(views=4, companion="view"), **BATCH).lasting(4)
    whole = tiny.told(tiny.train_in(tmp_path / "whole", [run])[0])
    monkeypatch.setattr(source, "REMEMBERED", 1300 * 4 * 4)  # A turn has a name,
    monkeypatch.setattr(kept, "REMEMBERED", 0)  # and what the present batch needs is all that stays.
    assert tiny.told(tiny.train_in(tmp_path / "little", [run])[0]) == whole
    assert tiny.told(tiny.train_in(tmp_path / "stored", [run], store=ROOM)[0]) == whole
    # Turns 0 1 2 3 0 1 2 3, of which the last two stay.
    assert [live.passes for live in made] == [1 + 4 * 3 + 1, 1 + 8 * 3 + 1, 1 + 4 * 3 + 1]
    assert CHUNK == 500


def test_sizes_are_read_and_told():
    assert [size_of(text) for text in ("off", "10GiB", "1.5 MiB", "512KiB")] == [0, 10 * 2**30, 3 * 2**19, 2**19]
    assert [told_size(size) for size in (0, 1536, 3 * 2**19, 1020 * 2**20, 10 * 2**30)] == [
        *("0 KiB", "1.5 KiB", "1.5 MiB", "1020 MiB", "10 GiB")
    ]
    for wrong in ("10", "10GB", "-1GiB", "much", "GiB"):
        with pytest.raises(UserError) as told:
            size_of(wrong)
        assert str(told.value) == f"--store is {wrong!r}; expected a size such as 10GiB or 500MiB, or off."


def test_the_log_tells_what_was_compared_and_when_a_store_pays(tmp_path: Path):
    tiny.train_in(tmp_path, [soft(**BATCH)], store=ROOM)
    tiny.train_in(tmp_path, [soft(seed=1, **BATCH)], store=ROOM)
    (stock,) = stocks(tmp_path / "store")
    filled = [line for line in stock.log if "asking" in line]
    assert sum(line["rows"] for line in filled) == 3 * 1040 + 260 + 20
    assert stock.agreement == (260 + 500 + 20, 260 + 500 + 20)
    assert stock.size > sum(line["rows"] for line in filled) * 24
    asking, writing = (sum(line.get(kind, 0.0) for line in stock.log) for kind in ("asking", "writing"))
    comparing = sum(line["seconds"] for line in stock.log if "compared" in line)
    reading = [line for line in stock.log if "read" in line]
    read = sum(line["reading"] for line in reading) / sum(line["read"] for line in reading) * 3400
    slow = replace(stock, log=tuple(_slower(line) for line in stock.log))
    assert slow.break_even == pytest.approx(1 + writing / (asking + 3400 - read - comparing))
    assert replace(stock, log=()).break_even is None


def _slower(line: Any) -> Any:
    """The same log of a teacher that takes a second for each image."""
    return {**line, "asking": line["asking"] + line["rows"]} if "asking" in line else line
