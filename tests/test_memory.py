"""What cohorts take, and how they are divided where the memory is small."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import tiny

from potstill import memory
from potstill.cli import main
from potstill.data import CropFlip, Data
from potstill.machine import Machine
from potstill.memory import Footprint, divided, footprint, free, need, together
from potstill.methods import CRD, Hint, Labels
from potstill.models import Network, build
from potstill.optim import Optimizer
from potstill.run import Run
from potstill.stage import Stage
from potstill.sweep import Group
from potstill.teachers import Given

RECIPES = Path(__file__).parent / "analysis" / "recipes.py"
SGD = Optimizer(name="SGD", learning_rate=0.1, options={"momentum": 0.9})
PLAIN = Run(
    name="plain",
    student=Network("resnet8", classes=10, channels=3),
    data=Data(name="cifar10"),
    stages=(Stage(terms=(Labels(),), epochs=1, optimizer=SGD),),
    batch_size=64,
)
WEIGHTS, STATISTICS = 78_042, 2 * 3 * (16 + 32 + 64)
"""Of resnet8: its parameters; the means and variances of nine batch norms, each of which counts its batches too."""


def test_what_is_kept_is_counted_to_the_byte():
    assert footprint(PLAIN, Machine()).kept == 4 * (2 * WEIGHTS + STATISTICS) + 8 * 9
    adam = replace(PLAIN.stages[0], optimizer=Optimizer(name="Adam", learning_rate=0.1))
    several = footprint(replace(PLAIN, stages=(adam,)), Machine()).kept
    assert 4 * (3 * WEIGHTS + STATISTICS) <= several < 4 * (3 * WEIGHTS + STATISTICS) + 1000
    watched = footprint(replace(PLAIN, data=Data(name="cifar10", validation=0.1)), Machine()).kept
    assert watched == 4 * (3 * WEIGHTS + 2 * STATISTICS) + 2 * 8 * 9  # The best epoch's.


def test_what_terms_learn_and_remember_is_counted():
    taught = replace(PLAIN, teacher=Given(Network.given(build(Network("resnet14", classes=10, channels=3)), 10)))

    def more(*terms: Labels | Hint | CRD) -> int:
        stage = replace(PLAIN.stages[0], terms=(Labels(), *terms))
        return footprint(replace(taught, stages=(stage,)), Machine()).kept - footprint(PLAIN, Machine()).kept

    assert more() == 0
    banks = 2 * 50_000 * 128 * 4
    assert banks < more(CRD()) < 1.1 * banks


def test_a_step_takes_what_the_estimate_says():
    code = f"""
import torch
from benchmarks.memory import _highest, _reset
from potstill.models import Network, build
network = build(Network("resnet20", classes=10, channels=3)).train()
def step(images):
    network(torch.zeros(images, 3, 32, 32)).sum().backward()
    network.zero_grad()
step(2)
before = _reset("cpu")
step({PLAIN.batch_size})
print(_highest("cpu") - before)
"""
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=quiet)
    estimate = footprint(replace(PLAIN, student=Network("resnet20", classes=10, channels=3)), Machine()).passing
    assert 0.7 < estimate / int(told.stdout) < 1.3


def test_a_step_grows_with_its_images_and_shrinks_with_bf16_and_devices():
    def passing(run: Run, machine: Machine) -> int:
        return footprint(run, machine).passing

    gradients = 4 * WEIGHTS
    whole = passing(PLAIN, Machine()) - gradients
    assert passing(replace(PLAIN, batch_size=128), Machine()) - gradients == pytest.approx(2 * whole, rel=0.01)
    assert passing(PLAIN, Machine(devices=2)) - gradients == pytest.approx(whole / 2, rel=0.01)
    pairs = replace(PLAIN, data=Data(name="cifar10", augment=CropFlip(), companion="view"))
    assert passing(pairs, Machine()) - gradients == pytest.approx(2 * whole, rel=0.01)
    assert 0.4 * whole < passing(PLAIN, Machine(precision="bf16")) - gradients < 0.8 * whole


def test_of_a_cohort_only_one_steps_at_a_time():
    assert together([Footprint(5, 100), Footprint(7, 30), Footprint(1, 2)]) == 113
    assert together([]) == 0


@pytest.mark.parametrize("room", [0, 10**6, 10**9, 10**12])
def test_cohorts_are_divided_in_order_and_no_further_than_they_must(room: int):
    one = need(Group((PLAIN,), Machine()))
    runs = tuple(replace(PLAIN, name=f"run {place}") for place in range(5))
    parts = divided([Group(runs, Machine()), Group(runs[:1], Machine())], lambda device: room)
    assert [run for part in parts for run in part.runs] == [*runs, runs[0]]
    assert all(len(part.runs) == 1 or need(part) <= room for part in parts)
    for part, following in pairwise(parts[:-1]):  # One more would have been too many.
        assert need(Group((*part.runs, following.runs[0]), part.machine)) > room
    assert len(parts) == (6 if room < one else 2)


def test_what_is_free_is_less_than_what_there_is():
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free("cpu") < physical
    assert memory.room("cpu") <= physical / 2


def test_a_sweep_in_a_small_memory_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["run", f"{RECIPES}:pair", "--jobs", "1"]
    assert main([*words, "--runs-dir", str(tmp_path / "large")]) == 0
    assert "the memory that is free" not in capsys.readouterr().out
    # As if other processes had all the rest.
    monkeypatch.setattr(memory, "free", lambda device: 10**4)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert main([*words, "--runs-dir", str(tmp_path / "small")]) == 0
    assert re.search(
        r"^2 cohorts are trained as 4, one after another, for the memory that is free\.$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    folders = [path for path in (tmp_path / "large").iterdir() if (path / "result.json").exists()]
    assert len(folders) > 4
    for folder in folders:
        assert tiny.told(folder) == tiny.told(tmp_path / "small" / folder.name)
