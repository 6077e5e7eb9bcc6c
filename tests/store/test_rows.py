"""The file of rows: what was written whole is read back, and nothing else ever is."""

from pathlib import Path

import numpy as np
import pytest

from potstill.store.rows import PAGE, Rows, head_of

HEAD = {"store": "one", "outputs": 3}


def values(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


def places(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


@pytest.mark.parametrize("width", [1, 4, 6, 20, 401])
def test_rows_come_back_from_wherever_they_were_written(width: int, tmp_path: Path):
    rows = Rows(tmp_path / "rows", HEAD, width)
    assert head_of(tmp_path / "rows") is None
    nothing, whole = rows.read(places(0, 5))
    assert not whole.any()
    assert not nothing.any()
    at = places(7, 8, 9, 2, 100_000, 0)
    told = values(6, width)
    rows.write(at, told)
    assert head_of(tmp_path / "rows") == HEAD
    assert rows.count() == 6
    found, whole = rows.read(np.concatenate([at[::-1], places(1, 3, 99_999, 100_001, 10**9)]))
    assert whole.tolist() == [True] * 6 + [False] * 5
    assert (found[:6] == told[::-1]).all()
    assert (tmp_path / "rows").stat().st_blocks * 512 < 5 * PAGE + 6 * rows.size  # Holes take no space.
    rows.write(at, told)
    rows.write(places(8), values(1, width, seed=1))
    assert (rows.read(places(8))[0] == values(1, width, seed=1)).all()


def test_a_row_of_zeros_is_a_row_and_a_hole_is_none(tmp_path: Path):
    rows = Rows(tmp_path / "rows", HEAD, 8)
    rows.write(places(3), np.zeros((1, 8), dtype=np.uint8))
    assert rows.read(places(2, 3, 4))[1].tolist() == [False, True, False]


def test_every_bit_that_flips_is_noticed(tmp_path: Path):
    path = tmp_path / "rows"
    rows = Rows(path, HEAD, 20)
    rows.write(places(0, 1, 2), values(3, 20))
    intact = path.read_bytes()
    for bit in range(PAGE * 8, len(intact) * 8):
        damaged = bytearray(intact)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        lost = (bit // 8 - PAGE) // rows.size
        assert rows.read(places(0, 1, 2))[1].tolist() == [row != lost for row in range(3)]


def test_rows_in_one_anothers_place_are_noticed(tmp_path: Path):
    path = tmp_path / "rows"
    rows = Rows(path, HEAD, 20)
    rows.write(np.arange(50), values(50, 20))
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)[PAGE:].reshape(50, rows.size)
    for shift in range(1, 50):
        path.write_bytes(path.read_bytes()[:PAGE] + np.roll(whole, shift, axis=0).tobytes())
        assert not rows.read(np.arange(50))[1].any()


def test_what_a_file_was_cut_back_to_is_there(tmp_path: Path):
    path = tmp_path / "rows"
    rows = Rows(path, HEAD, 20)
    rows.write(np.arange(4), values(4, 20))
    intact = path.read_bytes()
    for length in (*range(0, PAGE, 97), *range(PAGE - 1, len(intact))):
        path.write_bytes(intact[:length])
        left = max(length - PAGE, 0) // rows.size
        found, whole = rows.read(np.arange(4))
        assert whole.tolist() == [row < left for row in range(4)]
        assert (found[:left] == values(4, 20)[:left]).all()
        if length < PAGE:
            assert head_of(path) is None
    path.write_bytes(intact[: PAGE // 2])
    rows.write(np.arange(4), values(4, 20))
    assert path.read_bytes() == intact


def test_rows_of_another_file_are_none_of_this_one(tmp_path: Path):
    path = tmp_path / "rows"
    Rows(path, HEAD, 20).write(np.arange(9), values(9, 20))
    assert not Rows(path, {**HEAD, "store": "two"}, 20).read(np.arange(9))[1].any()
    path.write_bytes(b"{" * PAGE)
    assert head_of(path) == {}


def test_a_disk_that_takes_a_part_at_a_time_gets_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import os

    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, payload, offset: whole(file, payload[:7], offset))
    rows = Rows(tmp_path / "rows", HEAD, 20)
    rows.write(np.arange(9), values(9, 20))
    assert rows.read(np.arange(9))[1].all()
