"""The recipes, and the surface that others build on, held by snapshots that only `make golden` writes."""

import importlib
import inspect
from dataclasses import fields

import golden
import pytest

import potstill
from potstill import UserError, recipes
from potstill.codec import decode, encode
from potstill.data import classes_of
from potstill.rehearsal import rehearse
from potstill.run import Run, fingerprint
from potstill.sweep import Sweep, as_sweep
from potstill.verbs.flags import Flags, command_of

HINT = "if this was meant, write the snapshots anew with `make golden`"


@pytest.mark.parametrize("name", golden.SNAPSHOTS)
def test_the_surface_is_the_snapshot(name: str):
    assert golden.SNAPSHOTS[name]() == golden.kept(name), HINT


def test_every_public_name_is_there_and_is_what_its_module_calls_so():
    assert "distill" in golden.public()
    for name in golden.public():
        value = getattr(potstill, name)
        assert getattr(importlib.import_module(value.__module__), name) is value
    with pytest.raises(AttributeError, match="module 'potstill' has no attribute 'destill'"):
        _ = potstill.destill


@pytest.mark.parametrize("name", recipes.names())
def test_the_parser_of_a_recipe_has_its_parameters_and_the_common_flags(name: str):
    own = list(inspect.signature(recipes.find(name)).parameters)
    assert [field.name for field in fields(command_of(recipes.find(name)))] == [*own, *(f.name for f in fields(Flags))]


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_plain_data(name: str):
    sweep = as_sweep(recipes.find(name)())
    for member in sweep.members():
        again = decode(Run, encode(member.run))
        assert again == member.run
        assert fingerprint(again) == fingerprint(member.run)
    runs = [fingerprint(member.run) for member in sweep.members()]
    assert len(set(runs)) == len(runs)
    assert all(member.run.student.classes == classes_of(member.run.data) for member in sweep.members())


@pytest.mark.parametrize("name", recipes.names())
def test_a_shorter_recipe_keeps_its_teachers(name: str):
    sweep = as_sweep(recipes.find(name)())
    short = sweep.each(lambda run: run.lasting(1))
    assert short.teachers == sweep.teachers
    for arm, cut in zip(sweep.arms, short.arms, strict=True):
        assert cut.run.epochs == len(arm.run.stages)
        assert cut.run.teacher == arm.run.teacher
        assert fingerprint(cut.run) != fingerprint(arm.run)


TURNED: list[tuple[str, dict[str, str]]] = [
    *((name, {}) for name in recipes.names()),
    ("cifar10:lab5", {"stem": "cifar"}),
    ("cifar100:simkd", {"student": "mobilenet_v2x2"}),
]


@pytest.mark.parametrize(("name", "turned"), TURNED)
def test_every_stage_of_every_arm_fits_its_networks(name: str, turned: dict[str, str]):
    rehearse(unlike(as_sweep(recipes.find(name)(**turned))))


def unlike(sweep: Sweep) -> list[Run]:
    """One run for every student and what is looked at and learned in its stages, however it is weighed."""
    kinds: dict[str, Run] = {}
    for run in (member.run for member in sweep.members()):
        looks = [(type(t), t.key, t.student_taps, t.teacher_taps, s.train, s.name) for s in run.stages for t in s.terms]
        kinds.setdefault(repr((run.student, run.teacher is None, looks)), run)
    return list(kinds.values())


def test_the_first_experiment_has_the_published_rows():
    sweep = as_sweep(recipes.find("mnist:hinton")())
    assert sweep.seeds == (42, 43, 44, 45, 46)
    published = {arm.name: arm.published for arm in (*sweep.arms, *sweep.teachers)}
    assert published == {
        "hard": 0.94559,
        "soft": 0.94980,
        "hard+soft": None,
        "hard+soft, published reduction": 0.93910,
        "teacher": 0.99029,
    }


def test_a_parameter_turns_what_it_says():
    plain, turned = (as_sweep(recipes.find("digits:quickstart")(**given)) for given in ({}, {"temperature": 2.0}))
    assert plain.arms[0] == turned.arms[0]
    assert [encode(arm.run.stages[0].terms[-1])["temperature"] for arm in turned.arms[1:3]] == [2.0, 2.0]
    hard, soft = as_sweep(recipes.find("digits:quickstart")(alpha=0.25)).arms[2].run.stages[0].terms
    assert (hard.weight, soft.weight) == (0.75, 0.25)


def test_a_name_that_is_no_recipe_is_a_sentence():
    with pytest.raises(UserError, match=r"^There is no recipe 'mnist:hintn'; did you mean 'mnist:hinton'\?"):
        recipes.find("mnist:hintn")
    assert recipes.label("some/where/mine.py:idea") == "mine.py:idea"
    assert recipes.label("mnist:hinton") == "mnist:hinton"
