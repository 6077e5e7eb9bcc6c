"""Activations in the teacher's store: vectors, and maps where they fit; the live teacher where they do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from stores import BATCH, CONVOLUTIONAL, FEATURES, ROOM, featured, shifted, soft
from torch import nn

from potstill.data import CropFlip, load
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import KD, Hint, Labels
from potstill.models import Network, build
from potstill.record import Record
from potstill.store import form, kept
from potstill.store.form import AHEAD, Form
from potstill.store.rows import PAGE
from potstill.store.stock import HEAD, rows_of, stocks
from potstill.store.storage import Storage
from potstill.teachers import Given, source
from potstill.teachers.controls import Misplaced
from potstill.teachers.source import Live

TURNS = 3 * 3  # Three chunks in each of three views.


def forwards(folder: Path) -> float:
    result = Record(folder).result
    assert result is not None
    return result["forwards_per_step"]


@pytest.mark.parametrize("method", [pytest.param(m, marks=pytest.mark.slow) if m == "crd" else m for m in FEATURES])
def test_a_second_sweep_with_a_feature_method_makes_no_pass(method: str, tmp_path: Path, made: list[Live]):
    first = [featured(methods=[method], seed=seed, **BATCH) for seed in (0, 1)]
    for run in first:
        tiny.train_in(tmp_path, [run], store=ROOM)
    # Logits and activations come from one pass; but the gate asks about validation images before any term does.
    assert [live.passes for live in made] == [1 + 1 + TURNS + 1, 0]
    made.clear()
    other = replace(featured(methods=[method], seed=2, batch_size=64), stages=first[0].stages)
    stage = other.stages[0]
    terms = [Hint(student=term.student_taps, teacher=term.teacher_taps) for term in stage.terms if term.teacher_taps]
    if method != "crd":  # A hint about maps.
        other = replace(other, stages=(replace(stage, terms=(*terms, KD(temperature=2))),))
    (folder,) = tiny.train_in(tmp_path, [other], store=ROOM)
    assert [live.passes for live in made] == [0]
    assert forwards(folder) == 2  # As if nothing had been stored: one pass for all kinds.


def test_what_is_stored_of_logits_serves_a_method_that_needs_activations_too(tmp_path: Path, made: list[Live]):
    tiny.train_in(tmp_path, [soft(teacher=CONVOLUTIONAL, **BATCH)], store=ROOM)
    logits = {path: path.read_bytes() for path in tmp_path.glob("store/*/*.rows")}
    assert len(logits) == 3
    tiny.train_in(tmp_path, [featured(**BATCH)], store=ROOM)
    tiny.train_in(tmp_path, [soft("again", teacher=CONVOLUTIONAL, seed=1, **BATCH)], store=ROOM)
    tiny.train_in(tmp_path, [featured(seed=1, **BATCH)], store=ROOM)
    # Test images are not asked about: nobody looks at their activations.
    assert [live.passes for live in made] == [1 + TURNS + 1, 1 + TURNS, 0, 0]
    assert {path: path.read_bytes() for path in logits} == logits
    (stock,) = stocks(tmp_path / "store")
    there = {(held.split, held.kind): held.rows for held in stock.held}
    kinds = ("", "pooled", "stage1", "stage2")
    assert there == {
        **{("train", kind): 3 * 1040 for kind in kinds},
        **{("validation", kind): 260 for kind in kinds},
        ("test", ""): 20,
    }
    assert stock.agreement == (500 * 4 + 260 * 4 + 20, 500 * 4 + 260 * 4 + 20)
    told = dict(zip(HEAD, rows_of([stock])[0], strict=True))
    assert told["holds"].startswith(
        "test 100.0%, train 3 of 18 views, train (pooled) 3 of 18 views, train (stage1) 3 of 18"
    )
    assert stock.break_even is None or stock.break_even > 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_come_back_as_they_went_in(tmp_path: Path, precision: Any):
    resident = load(tiny.data(train=800, validation=0.0))
    machine = Machine(precision=precision)
    taps = ("stage1", "stage2", "pooled", "stage1:in")
    batch = resident.batch(resident.train, torch.tensor([5, 700, 3, 3]))
    network = build(tiny.convolutional())
    storage = Storage(tmp_path, ROOM, "content", 1, lambda said: None)
    stores = [storage.open("teacher", network, None, resident, machine) for _ in range(2)]
    lives = [Live(network, resident, machine, store=store) for store in stores]
    told = [live(batch, resident.train, taps) for live in lives]
    assert [(live.passes, live.checks) for live in lives] == [(2, 0), (0, 1)]
    with torch.no_grad(), machine.autocast():
        wanted = network.stage1(batch.inputs)  # pyright: ignore
    for tap in taps:
        first, second = (each.taps[tap] for each in told)
        assert torch.equal(first, second)
        assert first.stride() == second.stride()
        assert first.dtype == (torch.float32 if precision == "fp32" or tap == "stage1:in" else torch.bfloat16)
        if tap != "pooled":
            assert first.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(told[0].taps["stage1"], wanted)


def test_maps_that_do_not_fit_are_told_and_the_teacher_shows_them_live(tmp_path: Path, made: list[Live]):
    runs = [featured(seed=seed, **BATCH) for seed in (1, 2)]
    wanted = [tiny.told(tiny.train_in(tmp_path / "without", [run])[0]) for run in runs]
    made.clear()
    for run, told in zip(runs, wanted, strict=True):
        lines = tiny.Lines()
        assert tiny.told(tiny.train_in(tmp_path, [run], store=2600 * 2**10, display=lines)[0]) == told
        said = [line for line in lines.said if "not stored" in line]
        # 4 × 8 × 8 values and a seal in each row.
        size = f"{1040 * 3 * (4 * 8 * 8 * 4 + 8) / 2**20:.3g} MiB"
        assert [line.partition(", more")[0] for line in said] == [
            f"The teacher's answers ('stage1') about 1,040 train images in 3 views take {size}"
        ]
        assert said[0].endswith(" KiB that --store and the disk leave; they are not stored.")
    (stock,) = stocks(tmp_path / "store")
    assert {held.kind for held in stock.held if held.split == "train"} == {"", "pooled", "stage2"}
    assert stock.size <= 2600 * 2**10
    assert [live.passes for live in made] == [2 + TURNS + 1, TURNS]


def test_room_is_set_aside_for_what_was_begun(tmp_path: Path):
    """Each of two kinds would fit, if the other were as small as it is after the first view."""
    lines = tiny.Lines()
    run = featured(methods=["hint"], data=shifted(views=18), **BATCH).lasting(18)
    one = 18 * 1040 * (4 * 4 + 8)
    tiny.train_in(tmp_path, [run], store=one + 1040 * 18 * (4 * 8 * 8 * 4 + 8) - 2**16, display=lines)
    (said,) = [line for line in lines.said if "not stored" in line]
    assert said.startswith("The teacher's answers ('stage1') about 1,040 train images in 18 views take")


def test_maps_that_are_too_large_to_be_kept_in_memory_are_shown_live(
    tmp_path: Path, made: list[Live], monkeypatch: pytest.MonkeyPatch
):
    for each in (form, source):
        monkeypatch.setattr(each, "AHEAD", 2**20)
    lines = tiny.Lines()
    run = featured(**BATCH)
    (folder,) = tiny.train_in(tmp_path, [run], store=ROOM, display=lines)
    assert forwards(folder) == 3
    size = f"{1040 * 4 * 8 * 8 * 4 / 2**20:.3g} MiB"
    assert [line for line in lines.said if "take" in line] == [
        f"The teacher's answers ('stage1') about 1,040 train images take {size} a view, more than the 1 MiB that is "
        "kept in memory; they are not stored, and it is asked at every step."
    ]
    tiny.train_in(tmp_path, [replace(run, seed=1)], store=ROOM)
    assert [live.passes for live in made] == [2 + TURNS + 3 * 8 + 1, 3 * 8]
    assert tiny.told(tiny.train_in(tmp_path / "without", [run])[0]) == tiny.told(folder)


def test_logits_that_nobody_reads_are_not_asked_for_beside_maps_that_are_shown_live(
    tmp_path: Path, made: list[Live], monkeypatch: pytest.MonkeyPatch
):
    for each in (form, source):
        monkeypatch.setattr(each, "AHEAD", 2**20)
    hint, steps = FEATURES["hint"](), 3 * 8
    alone = soft("hint", terms=[hint, Labels()], teacher=CONVOLUTIONAL, **BATCH)
    beside = soft("beside", teacher=CONVOLUTIONAL, **BATCH)
    of_right = replace(alone, name="right", stages=(replace(alone.stages[0], terms=(replace(hint, only_right=True),)),))
    (folder,) = tiny.train_in(tmp_path / "alone", [alone])
    together, _ = tiny.train_in(tmp_path / "together", [alone, beside])
    (reads,) = tiny.train_in(tmp_path / "right", [of_right])
    assert [live.passes for live in made] == [2 + steps + 1, 2 + TURNS + steps + 1, 2 + TURNS + steps + 1]
    assert [forwards(each) for each in (folder, together, reads)] == [2, 2, 3]
    assert tiny.told(folder) == tiny.told(together)


def test_what_is_kept_of_an_activation_is_decided_by_its_size():
    vector, maps = Form.of("pooled", torch.zeros(2, 2048)), Form.of("stage3", torch.zeros(2, 256, 8, 8))
    assert vector.ahead(50_000)
    assert not maps.ahead(50_000)
    assert maps.size(50_000) == 50_000 * 256 * 64 * 4 > AHEAD
    for odd in (torch.zeros(8, 5), torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2), torch.zeros(2, 0)):
        assert not Form.of("windows", odd).ahead(1)
    with pytest.raises(UserError) as told:
        vector.rows(torch.zeros(5, 2047))
    assert str(told.value) == (
        "The teacher's tap 'pooled' is of shape (2047,) and torch.float32 now, but two black images gave (2048,); tap "
        "an activation that is always of one shape."
    )


def test_turns_of_maps_that_do_not_fit_the_memory_are_asked_again_with_the_same_bits(
    tmp_path: Path, made: list[Live], monkeypatch: pytest.MonkeyPatch
):
    run = featured(data=shifted(views=4, companion="view"), **BATCH).lasting(4)
    whole = tiny.told(tiny.train_in(tmp_path / "whole", [run])[0])
    monkeypatch.setattr(kept, "REMEMBERED", 0)
    assert tiny.told(tiny.train_in(tmp_path / "little", [run])[0]) == whole
    assert tiny.told(tiny.train_in(tmp_path / "stored", [run], store=ROOM)[0]) == whole
    assert [live.passes for live in made] == [2 + 4 * 3 + 1, 2 + 8 * 3 + 1, 2 + 4 * 3 + 1]


@pytest.mark.slow
def test_a_compiled_teacher_gives_logits_and_activations_apart(tmp_path: Path, made: list[Live]):
    """Compiled, its bits could hang on which taps are asked for."""
    taken = [
        tiny.train_in(tmp_path, [run], store=ROOM, compile=True)[0]
        for run in (
            soft(teacher=CONVOLUTIONAL, **BATCH),
            featured(**BATCH),
            featured(methods=["hint"], seed=1, **BATCH),
        )
    ]
    assert [live.passes for live in made] == [1 + TURNS + 1, 1 + TURNS, 0]
    assert [forwards(folder) for folder in taken] == [2, 3, 3]
    (alone,) = tiny.train_in(tmp_path / "without", [featured(**BATCH)], compile=True)
    assert tiny.told(alone) == tiny.told(taken[1])


def test_a_shuffled_teachers_store_is_filled_with_the_activations_of_the_right_one():
    resident = load(tiny.data(train=60, augment=CropFlip(padding=1)))
    live = Live(build(tiny.convolutional()), resident, Machine())
    assert Misplaced(live).networks(("stage1",)) == [(live, ("stage1",))]


def test_damaged_activations_are_computed_and_shown_again(tmp_path: Path, made: list[Live]):
    (folder,) = tiny.train_in(tmp_path, [featured(**BATCH)], store=ROOM)
    whole = {path: path.read_bytes() for path in tmp_path.glob("store/*/*.rows")}
    for place, path in enumerate(sorted(whole)):
        content = bytearray(whole[path])
        content[PAGE + 40 :: 5000] = bytes(byte ^ 8 for byte in content[PAGE + 40 :: 5000])
        path.write_bytes(content if place % 2 else whole[path][: len(content) // 2])
    other = tmp_path / "other"
    other.mkdir()
    (other / "store").symlink_to(tmp_path / "store")
    assert tiny.told(tiny.train_in(other, [featured(**BATCH)], store=ROOM)[0]) == tiny.told(folder)
    assert made[1].passes > TURNS
    assert {path: path.read_bytes() for path in whole} == whole


def test_activations_that_are_another_networks_are_not_served(tmp_path: Path, made: list[Live]):
    class Moved(nn.Module):
        """Its logits stay what they are, and what it shows on the way does not."""

        shift = 0.0

        def __init__(self) -> None:
            super().__init__()
            self.way = nn.Flatten()
            self.inner = tiny.linear_teacher()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.way(x + Moved.shift)
            return self.inner(x)

    given = Given(Network.given(Moved(), 4))
    run = soft(teacher=given, terms=(KD(), Shown()), **BATCH)
    tiny.train_in(tmp_path, [run], store=ROOM)
    Moved.shift = 0.5
    lines = tiny.Lines()
    (served,) = tiny.train_in(tmp_path, [replace(run, seed=1)], store=ROOM, display=lines)
    assert tiny.told(served) == tiny.told(tiny.train_in(tmp_path / "live", [replace(run, seed=1)])[0])
    (said,) = [line for line in lines.said if "holds other answers" in line]
    assert "(500 of 500 differ)" in said
    assert stocks(tmp_path / "store")[0].agreement == (760, 1260)
    assert made[1].passes == 1 + TURNS + 1


class Shown(tiny.Hint):
    """A hint from what is shown on the way."""

    def build(self, student, teacher, plan):  # pyright: ignore
        return nn.Sequential(nn.Conv2d(4, 3, 1), nn.Flatten())

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        return ("way",)

    def loss(self, batch, student, teacher, learned, progress):  # pyright: ignore
        mapped = learned(student.taps[self.tap]).float()  # pyright: ignore
        return nn.functional.mse_loss(mapped, teacher.taps["way"].float())  # pyright: ignore
