"""What does not fit is said before anything is trained, and what fits costs a moment, once."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import tiny
import torch
from torch import nn

from potstill import record
from potstill.architecture import of_student, untrained
from potstill.data import Data
from potstill.display import Silent
from potstill.errors import UserError
from potstill.execution import check, execute
from potstill.machine import Choices
from potstill.methods import CRD, KD, Hint, Labels
from potstill.models import Network, ReusedHead
from potstill.rehearsal import rehearse
from potstill.run import Run, fingerprint, result_of
from potstill.stage import Stage
from potstill.teachers import Ensemble, Given, Shuffled
from potstill.term import Knowledge, Plan
from potstill.types import Trace

TEACHER = tiny.run(
    "teacher", student=Network("digits_conv", tiny.CLASSES, 3), stages=[tiny.labels_only(1)], teacher=None
)
built: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Counted(Labels):
    """Labels; it notes down when it is built."""

    knowledge: ClassVar[Knowledge] = "label"

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module | None:
        built.append(self.key)
        return None


def stage(*terms: Labels | KD | Hint | CRD | tiny.Hint, train: tuple[str, ...] = ("*",)) -> Stage:
    return Stage(terms=terms, epochs=1, optimizer=tiny.SGD, train=train)


def taught(*stages: Stage) -> Run:
    return tiny.run("taught", stages=stages, teacher=result_of(TEACHER))


UNFIT: dict[str, tuple[Callable[[], Run], str]] = {
    "a later stage's glob": (
        lambda: taught(stage(KD()), stage(KD(), train=("student.stage9.*",))),
        "no parameters match 'student.stage9.*': did you mean ",
    ),
    "a part that is learned too late": (
        lambda: taught(stage(KD(), train=("learned.hint.*",)), stage(Hint(student=("stage1",), teacher=("stage1",)))),
        "no parameters match 'learned.hint.*'",
    ),
    "a tap of the teacher": (
        lambda: taught(stage(Hint(student=("stage1",), teacher=("stage9",)))),
        "tap 'stage9', but Chain has no module 'stage9'",
    ),
    "layers that do not pair": (
        lambda: taught(stage(KD()), stage(Hint(student=("stage1",), teacher=("logits",)))),
        "The term 'hint' compares maps, but the teacher's 'logits' is of shape (N, 4); expected a map",
    ),
    "a teacher of other classes": (
        lambda: tiny.run("other", teacher=tiny.teacher(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 5)),
        "The teacher answers 5 classes but the data has 4 classes; ",
    ),
    "an optimizer's option": (
        lambda: taught(replace(stage(KD()), optimizer=replace(tiny.SGD, options={"momentumm": 0.9}))),
        "momentumm",
    ),
    "a classifier that cannot be taken over": (
        lambda: replace(
            taught(stage(KD())), student=replace(tiny.convolutional(), reused=ReusedHead(teacher="stage2"))
        ),
        "The teacher's classifier does not read the mean of its 'stage2'",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_refused_before_its_teacher_is_trained(name: str, tmp_path: Path):
    make, sentence = UNFIT[name]
    with pytest.raises(UserError, match=re.escape(sentence)):
        execute([make()], Choices(), tiny.conditions(tmp_path), Silent(), jobs=1)
    assert not list(tmp_path.iterdir())


def test_every_kind_of_teacher_can_be_stood_in_for():
    given = tiny.teacher()
    ours = stage(KD(), tiny.Hint(teacher_tap="stage1"))
    rehearse([taught(ours)])
    rehearse([replace(taught(ours), teacher=Shuffled(result_of(TEACHER)))])
    both = Ensemble((result_of(TEACHER), Ensemble((given, result_of(replace(TEACHER, seed=9))))))
    rehearse([replace(taught(stage(KD(), tiny.Hint(teacher_tap="1/1/stage1"))), teacher=both)])
    with pytest.raises(UserError, match=r"tap 'stage9', but Chain has no module 'stage9'"):
        rehearse([replace(taught(stage(KD(), tiny.Hint(teacher_tap="0/stage9"))), teacher=both)])


def test_a_given_teacher_is_itself():
    module = tiny.linear_teacher()
    run = tiny.run("given", stages=[stage(KD(), tiny.Hint(teacher_tap="0:in"))], teacher=tiny.teacher(module))
    rehearse([run])
    with pytest.raises(UserError, match=r"the teacher's '1:in' is of shape \(N, 192\); expected a map"):
        rehearse([replace(run, stages=(stage(Hint(student=("stage1",), teacher=("1:in",))),))])
    assert module.get_parameter("1.weight").requires_grad  # Nobody touches the caller's.


def test_the_labels_of_own_images_are_those_that_are_learned_from():
    images, zeros = torch.zeros(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64)
    one_class = Data.given((images, zeros, images, zeros), class_names="abcd")
    contrast = stage(CRD(student=("logits",), teacher=("logits",)))
    run = tiny.run("contrast", stages=[contrast], teacher=result_of(TEACHER))
    rehearse([run])
    with pytest.raises(UserError, match="all training images are of class 0"):
        rehearse([replace(run, data=one_class)])


def test_seeds_share_a_rehearsal_and_nothing_random_moves():
    runs = [tiny.run("seeds", stages=[stage(Counted(name="seeds"))], teacher=None, seed=seed) for seed in range(4)]
    before = torch.get_rng_state()
    rehearse(runs)
    rehearse(runs)
    assert built.count("seeds") == 1
    rehearse([replace(runs[0], student=replace(runs[0].student, options={"width": 5}))])
    rehearse([replace(runs[0], batch_size=9)])
    assert built.count("seeds") == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_begun_is_not_rehearsed(tmp_path: Path):
    run = tiny.run("begun", stages=[stage(Counted(name="begun"))], teacher=None)
    folder = record.folder_of(tmp_path, run.name, fingerprint(run))
    folder.mkdir()
    record.write_json(folder / "run.json", {"fingerprint": fingerprint(run)})
    check([run], Choices(), tmp_path)
    assert "begun" not in built
    (folder / "run.json").unlink()
    check([run], Choices(), tmp_path)
    assert built.count("begun") == 1


def test_a_student_is_described_by_what_it_is_made_of():
    run = taught(stage(KD()))
    reused = replace(run, student=replace(run.student, reused=ReusedHead()))
    other = result_of(replace(TEACHER, student=replace(TEACHER.student, options={"width": 6})))
    assert of_student(run) == of_student(replace(run, seed=3, teacher=other))
    assert of_student(reused) == of_student(replace(reused, teacher=result_of(replace(TEACHER, seed=3))))
    assert len({of_student(run), of_student(reused), of_student(replace(reused, teacher=other))}) == 3
    widths = [
        untrained(each).get_parameter("fc.weight").shape[1] for each in (run, reused, replace(reused, teacher=other))
    ]
    assert widths == [16, 64, 24]
    weight = untrained(replace(reused, teacher=Given(TEACHER.student))).get_parameter("fc.weight")
    assert weight.shape == (tiny.CLASSES, 64)
