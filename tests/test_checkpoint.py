"""Files of tensors: whole or not there."""

from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from potstill import checkpoint
from potstill.errors import UserError
from potstill.learner import Learner

TENSORS = {
    "floats": torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)),
    "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "double": torch.tensor([1 / 3], dtype=torch.float64),
    "count": torch.tensor(7),
    "scalar": torch.tensor(0.1),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}
VALUES = {"step": 3, "rate": 0.1 + 0.2, "none": None, "nested": {"best": [1, 2.5]}, "text": "α → ω"}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name])


def test_what_is_written_is_what_is_read(tmp_path: Path):
    path = tmp_path / "file.safetensors"
    checkpoint.write(path, TENSORS, VALUES)
    loaded = checkpoint.read(path)
    assert loaded is not None
    assert_same(TENSORS, loaded[0])
    assert loaded[1] == VALUES


def test_memory_layout_does_not_reach_the_file(tmp_path: Path):
    last = {"floats": TENSORS["floats"].contiguous(memory_format=torch.channels_last)}
    one, other = tmp_path / "one", tmp_path / "other"
    checkpoint.write(one, {"floats": TENSORS["floats"]})
    checkpoint.write(other, last)
    assert one.read_bytes() == other.read_bytes()
    assert torch.equal(checkpoint.read_weights(other)["floats"], TENSORS["floats"])


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path):
    # Twenty times, because an order drawn by a hash is right now and then.
    payloads = set()
    for turn in range(20):
        path = tmp_path / f"{turn}"
        checkpoint.write(path, TENSORS, VALUES)
        payloads.add(path.read_bytes())
    assert len(payloads) == 1


def test_a_file_that_was_cut_short_anywhere_is_not_there(tmp_path: Path):
    path = tmp_path / "file"
    checkpoint.write(path, TENSORS, VALUES)
    payload = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(payload) // 2, len(payload) - 1):
        path.write_bytes(payload[:length])
        assert checkpoint.read(path) is None, length


def test_a_file_with_a_changed_byte_is_not_there(tmp_path: Path):
    path = tmp_path / "file"
    checkpoint.write(path, TENSORS, VALUES)
    payload = path.read_bytes()
    for place in [*range(0, 300, 7), *range(len(payload) - 40, len(payload))]:
        path.write_bytes(payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :])
        assert checkpoint.read(path) is None, place


def test_what_is_no_checkpoint_is_not_there(tmp_path: Path):
    assert checkpoint.read(tmp_path / "none") is None
    assert checkpoint.read(tmp_path) is None
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    assert checkpoint.read(tmp_path / "foreign") is None


def test_values_that_json_does_not_know_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="Out of range float"):
        checkpoint.write(tmp_path / "file", {}, {"rate": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_weights_that_must_be_there_are_asked_for_in_one_sentence(tmp_path: Path):
    path = tmp_path / "run" / "student.safetensors"
    with pytest.raises(UserError) as told:
        checkpoint.read_weights(path)
    assert str(told.value) == f"{path} is missing or damaged; delete {path.parent} to train that run again."


class _Stop(Exception):
    """Ends a training in the middle, as an interrupt would."""


@pytest.mark.parametrize("damage", ["cut", "byte", "gone"])
def test_a_run_whose_checkpoint_is_damaged_starts_over_and_ends_the_same(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tiny.run()
    (whole,) = tiny.train_in(tmp_path / "whole", [run])
    taken: list[int] = []
    step = Learner.step

    def counted(self: Learner, batch, teacher, number: int) -> None:
        step(self, batch, teacher, number)
        taken.append(number)
        if len(taken) == 8:
            raise _Stop

    monkeypatch.setattr(Learner, "step", counted)
    with pytest.raises(_Stop):
        tiny.train_in(tmp_path / "again", [run], pause=0)
    path = tmp_path / "again" / whole.name / "checkpoint.safetensors"
    payload = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = payload[:-5] if damage == "cut" else payload[:-5] + bytes([payload[-5] ^ 4]) + payload[-4:]
        path.write_bytes(changed)
    taken.clear()
    taken += [0] * 100  # No stop this time.
    (again,) = tiny.train_in(tmp_path / "again", [run], pause=0)
    assert taken[100:] == list(range(24))
    assert tiny.told(again) == tiny.told(whole)


def test_a_checkpoint_holds_all_of_the_student_and_nothing_of_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept: list[tuple[dict[str, Tensor], dict]] = []
    write = checkpoint.write

    def keeping(path: Path, tensors, values=None) -> None:
        write(path, tensors, values)
        if path.name == "checkpoint.safetensors":
            loaded = checkpoint.read(path)
            assert loaded is not None
            kept.append(loaded)

    monkeypatch.setattr(checkpoint, "write", keeping)
    tiny.train_in(tmp_path, [tiny.run()], pause=0)
    assert len(kept) == 24
    first, last = kept[1], kept[-1]
    heads = {".".join(name.split(".")[:2]) for name in last[0] if not name.startswith(("best.", "optimizer."))}
    assert heads == {"objective.student", "objective.learned", "sums"}
    assert {name.split(".")[0] for name in last[0]} == {"objective", "sums", "optimizer", "best"}
    assert not any(name.startswith("best.") for name in first[0])
    # The learned part of the first stage lives on.
    assert "objective.learned.hint.0.weight" in last[0]
    prototypes = torch.from_numpy(tiny.prototypes().reshape(4, -1)) * 0.05
    for tensors, _ in kept:
        assert not any(t.shape == prototypes.shape and torch.equal(t, prototypes) for t in tensors.values())
    assert [values["at"]["step"] for _, values in kept] == list(range(24))
    assert last[1]["at"]["stage"] == 1
    assert last[1]["at"]["best_epoch"] is not None
