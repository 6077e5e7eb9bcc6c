"""Controls behind the arms of a sweep."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from potstill.cli import main
from potstill.controls import with_controls
from potstill.display import Silent
from potstill.execution import execute
from potstill.machine import Choices
from potstill.methods import AVER, KD, Hint, Labels
from potstill.reading import Reading
from potstill.run import Run, result_of
from potstill.stage import Stage
from potstill.sweep import Arm, Sweep
from potstill.teachers import EMA, Ensemble, Shuffled, Uniform, Untrained


def taught(name: str, *terms: Any, **fields: Any) -> Arm:
    return Arm(name=name, run=tiny.run(name, stages=[Stage(terms=terms, epochs=1, optimizer=tiny.SGD)], **fields))


def teacher_run() -> Run:
    return tiny.run("above", student=tiny.wider(), stages=[tiny.labels_only(6)], teacher=None, seed=3)


def test_every_taught_arm_is_followed_by_its_controls():
    above = result_of(teacher_run())
    hint = Hint(student=("stage1",), teacher=("stage1",))
    sweep = Sweep(
        arms=(
            taught("labels", Labels(), teacher=None),
            taught("measured against it", Labels(), teacher=above),
            taught("soft", Labels(), KD(), teacher=above),
            taught("hint", Labels(), hint, teacher=above),
            taught("average", Labels(), KD(), teacher=EMA()),
            taught("three", Labels(), AVER(), teacher=Ensemble((above, tiny.teacher()))),
            taught("given", KD()),
            taught("read otherwise", KD(), teacher=replace(above, reading=Reading(size=8))),
        ),
        seeds=(0, 1),
    )
    found = {arm.name: arm.run for arm in with_controls(sweep).arms}
    assert list(found) == [
        "labels",
        "measured against it",
        "soft",
        *(f"soft; {who} teacher" for who in ("shuffled", "untrained", "uniform")),
        "soft; its own kind as teacher",
        "hint",
        *(f"hint; {who} teacher" for who in ("shuffled", "untrained")),
        "hint; its own kind as teacher",
        "average",
        "three",
        "three; shuffled teacher",
        "given",
        *(f"given; {who} teacher" for who in ("shuffled", "uniform")),  # An untrained one would be drawn from its name.
        "read otherwise",
        *(f"read otherwise; {who} teacher" for who in ("shuffled", "untrained", "uniform")),
        "read otherwise; its own kind as teacher",
    ]
    soft = found["soft"]
    assert found["soft; shuffled teacher"] == replace(soft, name="soft-shuffled", teacher=Shuffled(above))
    assert found["soft; uniform teacher"].teacher == Uniform()
    assert found["soft; untrained teacher"].teacher == Untrained(tiny.wider())
    read = found["read otherwise; untrained teacher"]
    assert read.teacher == Untrained(tiny.wider(), reading=Reading(size=8))
    own = replace(above.run, name="above-self", student=soft.student, seed=1003)
    assert found["soft; its own kind as teacher"].teacher == result_of(own)


def test_controls_train_to_their_end(runs_dir: Path):
    more = tiny.data(train=240)
    above = result_of(replace(teacher_run(), data=more))
    sweep = with_controls(Sweep(arms=(taught("soft", Labels(), KD(), teacher=above, data=more),), seeds=(0,)))
    assert execute([m.run for m in sweep.members()], Choices(threads=1), tiny.conditions(runs_dir), Silent(), 1) == []
    # Five students, the teacher, and the one of the student's own kind.
    assert len(list(runs_dir.glob("*/result.json"))) == 7


def test_controls_are_a_flag_of_every_recipe(capsys: pytest.CaptureFixture[str]):
    assert main(["show", "digits:quickstart", "--controls", "--seeds", "1"]) == 0
    told = capsys.readouterr().out
    assert "hard+soft; shuffled teacher" in told
    assert "mmd; untrained teacher" in told
    assert "mmd; uniform teacher" not in told
