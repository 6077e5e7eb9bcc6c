"""A run that was killed and started again is bitwise the run that was not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import quick
import tiny
from kills import KILLED, Nursery

from potstill import record

# Twenty-four steps: two stages of two epochs of six.
KILLS = [("step", 2), ("checkpoint", 3), ("epoch", 1), ("step", 8), ("stage", 1), ("line", 3), ("student", 1)]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def folder(runs_dir: Path) -> Path:
    (only,) = [path for path in runs_dir.iterdir() if path.is_dir()]
    return only


def assert_same(runs_dir: Path, whole: Path) -> None:
    for path in sorted(whole.iterdir()):
        assert tiny.told(runs_dir / path.name) == tiny.told(path)


@pytest.mark.parametrize("case", quick.only(["AdamW-fused-bf16"], tiny.MATRIX))
def test_killed_again_and_again_ends_in_the_same_bytes(case: str, tmp_path: Path, nursery: Nursery):
    assert nursery.train(case, tmp_path / "whole", pause=1e9) == 0
    for kill, at in KILLS:
        assert nursery.train(case, tmp_path / "killed", kill=kill, at=at) == KILLED, (kill, at)
    assert nursery.train(case, tmp_path / "killed") == 0
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("case", quick.only(["average", "past", "in turn", "ensemble"], tiny.TAUGHT))
def test_a_run_goes_on_with_its_teacher_whoever_that_is(case: str, tmp_path: Path, nursery: Nursery):
    assert nursery.train(case, tmp_path / "whole", pause=1e9) == 0
    # In the middle of an epoch, and where one stage ends.
    for kill, at in (("step", 9), ("stage", 1)):
        assert nursery.train(case, tmp_path / "killed", kill=kill, at=at) == KILLED, (kill, at)
    assert nursery.train(case, tmp_path / "killed") == 0
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("case", quick.only(["Adam-plain-bf16"], ["SGD-fused-fp32", "Adam-plain-bf16", "augmented"]))
@pytest.mark.parametrize(
    ("kill", "at"),
    quick.only(
        [("step", 17), ("checkpoint", 2), ("line", 2), ("result half", 1)],
        [("step", 9), ("step", 17), ("checkpoint", 2), ("epoch", 2), ("line", 2), ("stage", 1), ("result half", 1)],
    ),
)
def test_steps_since_the_last_checkpoint_are_taken_again(
    case: str, kill: str, at: int, tmp_path: Path, nursery: Nursery, whole: dict[str, Path]
):
    runs_dir = tmp_path / "killed"
    # The clock ticks each time it is read, so that a checkpoint is written about every fifth step.
    assert nursery.train(case, runs_dir, kill=kill, at=at, pause=5, ticks=True) == KILLED
    assert nursery.train(case, runs_dir, pause=5, ticks=True) == 0
    assert_same(runs_dir, whole[case])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> dict[str, Path]:
    """Uninterrupted runs."""
    folders = {}
    for case in ("SGD-fused-fp32", "Adam-plain-bf16", "augmented", "unlike"):
        folders[case] = tmp_path_factory.mktemp(case)
        assert nursery.train(case, folders[case], pause=1e9) == 0
    return folders


@pytest.mark.parametrize(
    ("kill", "at"),
    quick.only([("specification", 1), ("step", 3)], [("specification", 1), ("step", 3), ("epoch", 1), ("stage", 1)]),
)
def test_without_a_checkpoint_a_run_starts_over(
    kill: str, at: int, tmp_path: Path, nursery: Nursery, whole: dict[str, Path]
):
    assert nursery.train("SGD-fused-fp32", tmp_path, kill=kill, at=at, pause=1e9) == KILLED
    assert not (folder(tmp_path) / "checkpoint.safetensors").exists()
    assert nursery.train("SGD-fused-fp32", tmp_path, pause=1e9) == 0
    assert_same(tmp_path, whole["SGD-fused-fp32"])


def test_a_checkpoint_cut_short_is_left_aside(tmp_path: Path, nursery: Nursery, whole: dict[str, Path]):
    assert nursery.train("SGD-fused-fp32", tmp_path, kill="step", at=9) == KILLED
    path = folder(tmp_path) / "checkpoint.safetensors"
    payload = path.read_bytes()
    path.write_bytes(payload[: len(payload) * 2 // 3])
    assert nursery.train("SGD-fused-fp32", tmp_path, kill="step", at=10) == KILLED
    assert len(record.read_lines(folder(tmp_path) / "metrics.jsonl")) == 1
    assert nursery.train("SGD-fused-fp32", tmp_path) == 0
    assert_same(tmp_path, whole["SGD-fused-fp32"])


def test_a_kill_leaves_no_half_written_file_behind(tmp_path: Path, nursery: Nursery, whole: dict[str, Path]):
    assert nursery.train("SGD-fused-fp32", tmp_path, kill="checkpoint", at=9) == KILLED
    assert list(folder(tmp_path).glob("checkpoint.safetensors.*.tmp"))
    assert nursery.train("SGD-fused-fp32", tmp_path, pause=1e9) == 0
    assert_same(tmp_path, whole["SGD-fused-fp32"])
    names = {path.name for path in folder(tmp_path).iterdir()}
    assert names == {path.name for path in folder(whole["SGD-fused-fp32"]).iterdir()}


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, nursery: Nursery):
    assert nursery.train("SGD-fused-fp32", tmp_path, kill="result", at=1) == KILLED
    before = {path.name: path.read_bytes() for path in folder(tmp_path).iterdir()}
    assert json.loads(before["result.json"])["status"] == "finished"
    assert nursery.train("SGD-fused-fp32", tmp_path, kill="step", at=0) == 0
    assert {path.name: path.read_bytes() for path in folder(tmp_path).iterdir()} == before


@pytest.mark.parametrize(
    ("kill", "at"),
    quick.only(
        [("checkpoint", 13), ("student", 1)],
        [("step", 4), ("checkpoint", 13), ("epoch", 2), ("stage", 1), ("student", 1), ("result", 2)],
    ),
)
def test_a_killed_cohort_of_unlike_members_ends_in_the_same_bytes(
    kill: str, at: int, tmp_path: Path, nursery: Nursery, whole: dict[str, Path]
):
    assert nursery.train("unlike", tmp_path, kill=kill, at=at) == KILLED
    assert nursery.train("unlike", tmp_path, kill="step", at=19, pause=5, ticks=True) == KILLED
    assert nursery.train("unlike", tmp_path, pause=5, ticks=True) == 0
    assert_same(tmp_path, whole["unlike"])


def test_members_that_stand_epochs_apart_go_on_from_the_least(tmp_path: Path, nursery: Nursery, whole: dict[str, Path]):
    assert nursery.train("unlike", tmp_path, kill="step", at=15) == KILLED
    lost = sorted(path for path in tmp_path.iterdir() if not (path / "result.json").exists())
    (lost[0] / "checkpoint.safetensors").unlink()
    assert nursery.train("unlike", tmp_path) == 0
    assert_same(tmp_path, whole["unlike"])
