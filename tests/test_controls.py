"""Controls behind the arms of a sweep."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from potstill.architecture import untrained
from potstill.cli import main
from potstill.controls import OTHER_SEED, with_controls
from potstill.display import Silent
from potstill.execution import execute
from potstill.machine import Choices
from potstill.methods import AVER, BYOT, KD, Hint, Labels
from potstill.models import ReusedHead
from potstill.reading import Reading
from potstill.recipes import cifar100
from potstill.run import Run, result_of
from potstill.stage import Stage
from potstill.sweep import Arm, Sweep
from potstill.teachers import EMA, Ensemble, Sampled, Shuffled, Uniform, Untrained


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
    arms = with_controls(sweep).arms
    for arm in arms:
        name, _, change = arm.name.partition("; ")
        assert (arm.control, arm.after, arm.change) == ((True, name, change) if change else (False, None, ""))
    found = {arm.name: arm.run for arm in arms}
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


def test_its_own_kind_was_taught_by_nobody():
    """A network that an assistant taught knows what the teacher knows, at second hand."""
    above = teacher_run()
    first = tiny.run("first", teacher=result_of(above))
    second = tiny.run("second", teacher=result_of(first))
    sweep = Sweep(arms=tuple(taught(run.name, KD(), teacher=result_of(run)) for run in (above, first, second)))
    found = {arm.name: arm.run for arm in with_controls(sweep).arms}
    own = result_of(replace(above, name="above-self", student=found["above"].student, seed=1003))
    assert [found[f"{name}; its own kind as teacher"].teacher for name in ("above", "first", "second")] == [own] * 3


def test_its_own_kind_sees_the_data_of_the_student_whatever_the_teacher_reads():
    reading = Reading(classes=(2, 0, 1), known=4)
    elsewhere = replace(teacher_run(), data=tiny.data(train=240), student=replace(tiny.wider(), classes=4))
    arm = taught("soft", Labels(), KD(), teacher=replace(result_of(elsewhere), reading=reading))
    found = {arm.name: arm.run for arm in with_controls(Sweep(arms=(arm,))).arms}
    own = found["soft; its own kind as teacher"].teacher
    assert own == result_of(
        replace(elsewhere, name="above-self", student=arm.run.student, data=arm.run.data, seed=OTHER_SEED + 3)
    )


def test_of_a_teacher_that_is_sampled_controls_are_too():
    above = result_of(teacher_run())
    sampled = Sampled(right=above, draws=2)
    found = {arm.name: arm.run for arm in with_controls(Sweep(arms=(taught("soft", KD(), teacher=sampled),))).arms}
    assert [found[f"soft; {who}"].teacher for who in ("shuffled teacher", "untrained teacher", "uniform teacher")] == [
        Shuffled(sampled),
        Sampled(right=Untrained(tiny.wider()), draws=2),
        Uniform(),
    ]
    own = found["soft; its own kind as teacher"].teacher
    assert isinstance(own, Sampled)
    assert own.draws == 2


def test_controls_have_no_controls():
    above = result_of(teacher_run())
    arms = tuple(taught(str(n), KD(), teacher=who) for n, who in enumerate((Shuffled(above), Uniform())))
    assert with_controls(Sweep(arms=arms)) == Sweep(arms=arms)


def test_a_student_with_its_teachers_classifier_has_controls_that_can_be_built():
    for member in with_controls(cifar100.simkd(teacher="resnet14", student="resnet8")).members():
        assert untrained(member.run)(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_controls_train_to_their_end(runs_dir: Path):
    more = tiny.data(train=240)
    above = result_of(replace(teacher_run(), data=more))
    sweep = with_controls(Sweep(arms=(taught("soft", Labels(), KD(), teacher=above, data=more),), seeds=(0,)))
    assert execute([m.run for m in sweep.members()], Choices(threads=1), tiny.conditions(runs_dir), Silent(), 1) == []
    assert [member.role for member in sweep.members()] == ["student", *["control"] * 4]
    # Five students, the teacher, and the one of the student's own kind.
    assert len(list(runs_dir.glob("*/result.json"))) == 7


def test_controls_are_a_flag_of_every_recipe(capsys: pytest.CaptureFixture[str]):
    assert main(["show", "digits:quickstart", "--controls", "--seeds", "1"]) == 0
    told = capsys.readouterr().out
    assert "hard+soft; shuffled teacher" in told
    assert "mmd; untrained teacher" in told
    assert "mmd; uniform teacher" not in told


def test_controls_that_do_not_fit_are_left_out():
    """Layers that the teacher's training names need not be the student's; a head taken over is drawn with nobody."""
    bound = (
        tiny.labels_only(1, train=("student.*",)),
        Stage(terms=(Labels(), BYOT(student=("stage1",))), epochs=1, optimizer=tiny.SGD),
    )
    for stage in bound:
        above = replace(teacher_run(), stages=(stage,))
        found = [arm.name for arm in with_controls(Sweep(arms=(taught("soft", KD(), teacher=result_of(above)),))).arms]
        assert found == ["soft", *(f"soft; {who} teacher" for who in ("shuffled", "untrained", "uniform"))]
    reused = replace(tiny.convolutional(), reused=ReusedHead(student="stage2", teacher="stage2"))
    above = tiny.run("above", student=reused, stages=[tiny.labels_only()])
    found = [arm.name for arm in with_controls(Sweep(arms=(taught("soft", KD(), teacher=result_of(above)),))).arms]
    assert found == ["soft", "soft; shuffled teacher", "soft; uniform teacher"]
