import json
import re
from dataclasses import replace

import pytest

from potstill import __version__, record
from potstill.data import Data
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.optim import Optimizer
from potstill.run import Run, fingerprint, result_of
from potstill.stage import Stage
from potstill.sweep import Arm, Sweep, as_sweep, diverged, group, in_order, provenance, unfinished, write_sweep
from potstill.teachers import Teacher


def run(name, teacher=None, **options):
    term = Labels() if teacher is None else KD()
    return Run(
        name=name,
        student=options.pop("student", Network("digits_mlp", classes=10, channels=1)),
        data=options.pop("data", Data(name="digits")),
        stages=(Stage(terms=(term,), epochs=options.pop("epochs", 1), optimizer=Optimizer()),),
        teacher=None if teacher is None else result_of(teacher),
        **options,
    )


TEACHER = run("teacher", student=Network("digits_conv", classes=10, channels=1), seed=9)
ASSISTANT = run("assistant", TEACHER, seed=8)
OTHER = run("other teacher", seed=7)


def test_a_ladder_stands_on_arms_of_its_sweep():
    labels, soft = Arm(name="labels", run=run("labels")), Arm(name="soft", run=run("soft", TEACHER))

    def refused(sentence, *arms):
        with pytest.raises(UserError) as caught:
            Sweep(arms=(labels, *arms))
        assert str(caught.value) == sentence

    rung = replace(soft, after="labels", change="soft targets")
    assert Sweep(arms=(rung, labels)).arms[0].after == "labels"  # In any order.
    both = "give both, the arm that it changes and what it changes, or neither."
    refused(f"The arm 'soft' names only one of `after` and `change`; {both}", replace(soft, after="labels"))
    refused(f"The arm 'soft' names only one of `after` and `change`; {both}", replace(soft, change="soft targets"))
    refused(
        "The arm 'soft' comes after the arm 'lables', which there is not; name another arm of the sweep.",
        replace(rung, after="lables"),
    )
    refused(
        "The arm 'soft' comes after itself in the end; name another arm of the sweep.",
        replace(rung, after="other"),
        replace(rung, name="other", after="soft"),
    )
    refused(
        "The arm 'soft' is a control; say with `after` and `change` of which arm.",
        replace(soft, control=True),
    )


def test_a_rung_is_written_beside_its_runs_and_changes_none(tmp_path):
    labels, soft = Arm(name="labels", run=run("labels")), Arm(name="soft", run=run("soft", TEACHER))
    files = []
    for place, arm in enumerate((soft, replace(soft, after="labels", change="soft targets"))):
        path = tmp_path / f"{place}.sweep.json"
        write_sweep(path, "my:ladder", "", "", Sweep(arms=(labels, arm), seeds=(0,)), tmp_path)
        files.append(json.loads(path.read_text())["runs"])
    assert files[1] == [files[0][0], files[0][1] | {"after": "labels", "change": "soft targets"}]


def names(levels):
    return [[member.name for member in level] for level in levels]


def test_runs_come_after_the_runs_of_their_teachers_and_each_comes_once():
    direct, through, alone = run("direct", TEACHER), run("through", ASSISTANT), run("alone")
    levels = in_order([through, direct, alone, through, TEACHER, run("second", OTHER)])
    assert names(levels) == [["teacher", "alone", "other teacher"], ["assistant", "direct", "second"], ["through"]]
    assert levels[2] == [through]


def test_the_same_training_under_another_name_is_no_second_run():
    renamed = replace(TEACHER, name="the same teacher")
    assert names(in_order([run("a", TEACHER), run("a again", renamed), renamed])) == [["teacher"], ["a"]]


def test_a_level_needs_only_those_before_it():
    deep = run("student", run("second", run("third", run("fourth"), seed=1), seed=2), seed=3)
    levels = in_order([deep, run("fifth", deep, seed=4)])
    done = set[str]()
    for level in levels:
        for member in level:
            assert member.teacher is None or member.teacher.identity() in done
        done |= {fingerprint(member) for member in level}
    assert len(done) == 5
    assert in_order([]) == []


def test_a_cohort_shares_seed_data_teacher_batch_size_and_machine():
    base = run("base", TEACHER)
    mates = [
        base,
        run("longer", TEACHER, epochs=3),
        run("same teacher", replace(TEACHER, name="renamed"), epochs=2),
        run("other student", TEACHER, student=Network("digits_conv", classes=10, channels=1)),
    ]
    strangers = [
        replace(base, seed=1),
        replace(base, data=Data(name="digits", validation=0.5)),
        replace(base, batch_size=32),
        replace(base, precision="bf16"),
        run("other teacher", OTHER),
        run("no teacher"),
    ]

    def choose(member):
        return Machine(precision="bf16" if member.precision == "bf16" else "fp32")

    groups = group([mates[0], *strangers, *mates[1:]], choose)
    assert groups[0].runs == tuple(mates)
    assert [cohort.runs for cohort in groups[1:]] == [(stranger,) for stranger in strangers]
    assert groups[0].machine == Machine()
    assert groups[4].machine == Machine(precision="bf16")


def comparison():
    return Sweep(
        arms=(
            Arm(name="hard", run=run("hard"), published=0.94559),
            Arm(name="soft", run=run("soft", TEACHER), settings={"temperature": 4.0}),
        ),
        seeds=(42, 43, 44),
        teachers=(Arm(name="teacher", run=TEACHER, published=0.99),),
        margin=0.008,
    )


def test_arms_with_one_seed_are_paired_and_teachers_keep_their_own():
    members = comparison().members()
    assert [(m.role, m.arm.name, m.run.seed) for m in members] == [
        ("teacher", "teacher", 9),
        *(("student", "hard", seed) for seed in (42, 43, 44)),
        *(("student", "soft", seed) for seed in (42, 43, 44)),
    ]
    assert len({fingerprint(member.run) for member in members}) == 7
    assert all(m.run.teacher == result_of(TEACHER) for m in members if m.arm.name == "soft")  # One teacher for all.
    alike = replace(comparison(), arms=tuple(replace(arm, run=replace(arm.run, seed=5)) for arm in comparison().arms))
    assert [m.run for m in alike.members()] == [m.run for m in members]


def test_a_change_reaches_students_and_no_teacher():
    short = comparison().each(lambda member: member.lasting(7))
    assert [arm.run.epochs for arm in short.arms] == [7, 7]
    assert short.teachers == comparison().teachers
    assert short.arms[1].run.teacher == result_of(TEACHER)
    assert (short.seeds, short.arms[0].published, short.margin) == ((42, 43, 44), 0.94559, 0.008)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Sweep(arms=(Arm(name="a", run=run("a")), Arm(name="a", run=run("b")))),
            "Two arms of the sweep are called 'a'; give each a name of its own.",
        ),
        (
            lambda: Sweep(arms=(Arm(name="a", run=run("a")),), teachers=(Arm(name="a", run=TEACHER),)),
            "Two arms of the sweep are called 'a'; give each a name of its own.",
        ),
        (lambda: Sweep(arms=()), "The sweep has no arms or no seeds; give it at least one of each."),
        (
            lambda: Sweep(arms=(Arm(name="a", run=run("a")),), seeds=()),
            "The sweep has no arms or no seeds; give it at least one of each.",
        ),
        (lambda: as_sweep([]), "The recipe returned list; expected a Run, a list of Runs, or a Sweep."),
        (lambda: as_sweep([run("a"), 3]), "The recipe returned list; expected a Run, a list of Runs, or a Sweep."),
        (lambda: as_sweep(None), "The recipe returned NoneType; expected a Run, a list of Runs, or a Sweep."),
        (lambda: as_sweep("runs"), "The recipe returned str; expected a Run, a list of Runs, or a Sweep."),
        (
            lambda: as_sweep([run("a", seed=4), run("b", seed=2), run("c", seed=4)]),
            "The recipe returned runs with the seeds 4, 2; expected one seed for all: return a Sweep with seeds=(…), "
            "which gives every arm each of them.",
        ),
    ],
)
def test_what_is_no_comparison_is_refused_with_a_sentence(make, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        make()


def test_a_recipe_may_return_a_run_runs_or_a_sweep():
    sweep = comparison()
    assert as_sweep(sweep) is sweep
    one = as_sweep(run("a", seed=4))
    assert (one.arms, one.seeds, one.margin) == ((Arm(name="a", run=run("a", seed=4)),), (4,), 0.0)
    for several in ([run("a", seed=4), run("b", seed=4)], (run("a", seed=4), run("b", seed=4))):
        assert [(m.arm.name, m.run) for m in as_sweep(several).members()] == [(r.name, r) for r in several]


def test_a_sweep_is_written_with_every_run_and_its_row(tmp_path):
    sweep = comparison()
    path = tmp_path / "digits-demo.sweep.json"
    earlier = tmp_path / f"labelled-{fingerprint(TEACHER)[:12]}"  # The folder keeps the label it was made with.
    earlier.mkdir()
    write_sweep(path, "digits:demo", "A demo", "potstill run digits:demo", sweep, tmp_path)
    written = json.loads(path.read_text())
    rows = written.pop("runs")
    assert written == {
        "format": record.FORMAT,
        "version": __version__,
        "recipe": "digits:demo",
        "title": "A demo",
        "command": "potstill run digits:demo",
        "margin": 0.008,
    }
    assert len(rows) == 7
    assert rows[0] == {
        "arm": "teacher",
        "role": "teacher",
        "seed": 9,
        "fingerprint": fingerprint(TEACHER),
        "folder": earlier.name,
        "published": 0.99,
        "settings": {},
    }
    soft = fingerprint(replace(sweep.arms[1].run, seed=44))
    assert rows[6] == {
        "arm": "soft",
        "role": "student",
        "seed": 44,
        "fingerprint": soft,
        "folder": f"soft-{soft[:12]}",
        "published": None,
        "settings": {"temperature": 4.0},
    }


def test_what_is_left_to_do_is_read_from_the_folders(tmp_path):
    runs = [run("finished"), run("diverged", seed=1), run("begun", seed=2), run("absent", seed=3)]
    for member, status in zip(runs, ("finished", "diverged", None), strict=False):
        folder = record.folder_of(tmp_path, member.name, fingerprint(member))
        folder.mkdir()
        record.write_json(folder / "run.json", {"fingerprint": fingerprint(member)})
        if status is not None:
            record.write_json(folder / "result.json", {"status": status})
    assert unfinished(runs, tmp_path) == runs[2:]
    assert diverged(runs, tmp_path) == [runs[1]]


def test_the_provenance_names_the_command_and_the_commit_if_there_is_one():
    told = provenance("potstill run digits:demo")
    assert told["command"] == "potstill run digits:demo"
    assert told["commit"] is None or re.fullmatch("[0-9a-f]{40}", told["commit"])
    assert type(told["uncommitted_changes"]) is bool


class Returning(Teacher):
    """A teacher that says only late whose students teach in it."""

    def __init__(self):
        self.found = ()

    @property
    def runs(self):
        return self.found

    def identity(self):
        return "returning"


def test_a_run_that_teaches_itself_in_the_end_is_refused():
    late = Returning()
    first = replace(ASSISTANT, name="first", teacher=late)
    second = run("second", first)
    in_order([second])
    object.__setattr__(late, "found", (second,))
    with pytest.raises(UserError) as caught:
        in_order([second])
    assert str(caught.value) == (
        "Among those who teach 'second' is 'second' itself; name teachers that can be trained before it."
    )
