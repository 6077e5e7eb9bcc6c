import importlib
import inspect
import json
import pkgutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from specs import STUDENT, TEACHER
from torch import nn

import potstill.methods
from potstill.codec import class_path, decode, digest, encode
from potstill.data import CropFlip, Data, Warp
from potstill.data.augment import Augment
from potstill.errors import UserError
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.optim import Constant, Cosine, MultiStep, OneCycle, Optimizer, Schedule, Step, Warmup
from potstill.run import Run, result_of
from potstill.stage import EarlyStopping
from potstill.teachers import EMA, Ensemble, Given, OwnPast, Peers, Sampled, Shuffled, Teacher, Uniform, Untrained
from potstill.term import Term

ARRAYS = [torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])] * 2
SPECS = [
    STUDENT,
    TEACHER,
    replace(STUDENT, teacher=Given(Network.given(nn.Linear(4, 10), classes=10))),
    replace(TEACHER, data=Data.given(ARRAYS, augment=Warp(rotation=5.0))),
    *(Optimizer(name=name, options={"eps": 1e-6}) for name in ("Adam", "Adadelta")),
    *(Constant(), Step(every=2, gamma=0.7), MultiStep(milestones=(3,)), Cosine(final=0.01), OneCycle(start=0.1)),
    *(Warmup(then=Warmup(then=Cosine())), CropFlip(padding=2), Warp(scale=0.1), EarlyStopping(), result_of(STUDENT)),
    *(
        replace(STUDENT, student=TEACHER.student, teacher=teacher)
        for teacher in (
            Ensemble((result_of(TEACHER), Uniform()), weights=(1.0, 2.0)),
            Untrained(TEACHER.student, seed=2),
            Shuffled(result_of(TEACHER)),
            *(EMA(decay=0.5), OwnPast(), Peers((TEACHER.student, TEACHER.student), "in turn")),
        )
    ),
    replace(TEACHER, teacher=Uniform()),
    replace(TEACHER, teacher=Sampled(right=result_of(TEACHER), draws=8)),
    Data(name="mnist", views=2),
    Network("resnet8", classes=100),
    KD(),
    Labels(),
]


def as_written(spec) -> Any:
    """The specification as it comes back from a JSON file."""
    return json.loads(json.dumps(encode(spec), allow_nan=False))


def kinds(base: type) -> set[type]:
    """Every concrete kind of `base` in the package."""
    below = {kind for child in base.__subclasses__() for kind in kinds(child)}
    own = {base} if not inspect.isabstract(base) and base.__module__.startswith("potstill.") else set[type]()
    return below | own


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_every_spec_comes_back_equal(spec):
    back = decode(type(spec), as_written(spec))
    assert back == spec
    assert type(back) is type(spec)
    assert encode(back) == encode(spec)


@pytest.mark.parametrize("base", [Schedule, Augment, Teacher])
def test_every_kind_of_spec_was_among_them(base):
    seen = {type(spec) for spec in SPECS} | {type(run.teacher) for run in SPECS if isinstance(run, Run)}
    assert kinds(base) <= seen


def test_every_term_comes_back_equal():
    for module in pkgutil.iter_modules(potstill.methods.__path__):
        importlib.import_module(f"potstill.methods.{module.name}")
    terms = [kind(weight=0.5, warmup=3.0, name="part") for kind in kinds(Term)]
    assert {Labels, KD} <= {type(term) for term in terms}
    for term in terms:
        assert decode(Term, as_written(term)) == term


def test_an_abstract_kind_is_read_as_the_class_that_stands_beside_it():
    back = decode(Schedule, as_written(Warmup(then=Step(every=3))))
    assert back == Warmup(then=Step(every=3))
    assert as_written(back) == {
        "is": "potstill.optim:Warmup",
        "then": {"is": "potstill.optim:Step", "every": 3, "gamma": 0.1},
        "epochs": 5.0,
        "start": 0.0,
    }
    assert class_path(Step) == "potstill.optim:Step"


def test_live_modules_and_arrays_are_left_out_but_what_identifies_them_is_not():
    network = Network.given(nn.Linear(4, 10), classes=10)
    assert as_written(network) == {
        "name": "Linear",
        "classes": 10,
        "channels": 3,
        "options": {},
        "reused": None,
        "initial": network.initial,
    }
    data = Data.given(ARRAYS)
    assert "arrays" not in encode(data)
    assert decode(Data, as_written(data)).content == data.content


def changed(spec, *path_and_value):
    """The JSON of a specification with the value at a path replaced; `...` as the value takes the key away."""
    *path, last, value = path_and_value
    written = as_written(spec)
    place = written
    for key in path:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return written


TERM = ("stages", 1, "terms", 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("batchsize", 3), "Run has no field 'batchsize'; did you mean 'batch_size'?"),
        (("teacher", "run", "stages", 0, "epoch", 1), "Stage has no field 'epoch'; did you mean 'epochs'?"),
        ((*TERM, "temperatures", 1), "KD has no field 'temperatures'; did you mean 'temperature'?"),
        (
            ("student", "module", 1),
            "Network has no field 'module'; it has name, classes, channels, options, reused, initial.",
        ),
        (("student", ...), "the field 'student' is missing."),
        (("student", "classes", ...), "the field 'classes' is missing."),
        ((*TERM, "is", ...), "expected a Term with its class under 'is', got {'weight': 0.8,"),
        ((*TERM, "is", 3), "expected a Term with its class under 'is', got {'is': 3,"),
        ((*TERM, "is", "potstill.optim:Step"), "'potstill.optim:Step' is not a kind of Term."),
        ((*TERM, "is", "os:path"), "'os:path' is not a kind of Term."),
        ((*TERM, "is", "nowhere:KD"), "'nowhere:KD' is no class that can be imported; expected a kind of Term."),
        ((*TERM, "is", "potstill.methods.kd:No"), "'potstill.methods.kd:No' is no class that can be imported;"),
        (("is", "potstill.optim:Step"), "expected the fields of a Run, got those of 'potstill.optim:Step'."),
        (("teacher", 3), "expected a Teacher with its class under 'is', got 3."),
        (("student", [1]), "expected the fields of a Network, got [1]."),
        (("batch_size", "64"), "the field 'batch_size' cannot be read: expected a whole number, got '64'."),
        (("batch_size", 2.7), "the field 'batch_size' cannot be read: expected a whole number, got 2.7."),
        (("seed", True), "the field 'seed' cannot be read: expected a whole number, got True."),
        (("seed", None), "the field 'seed' cannot be read: expected a whole number, got None."),
        (("deterministic", "no"), "the field 'deterministic' cannot be read: expected true or false, got 'no'."),
        (("name", 3), "the field 'name' cannot be read: expected a text, got 3."),
        ((*TERM, "weight", "1"), "the field 'weight' cannot be read: expected a number, got '1'."),
        (("precision", "fp64"), "the field 'precision' cannot be read: fp64 not in literal"),
        (("stages", 3), "the field 'stages' cannot be read: 'int' object is not iterable."),
        (("stages", 0, "optimizer", "options", {"momentum": "x"}), "the field 'options' cannot be read: x "),
        (("batch_size", 1), "The batch size is 1; expected at least 2 images."),
        ((*TERM, "temperature", 0), "The temperature is 0; expected a number > 0, usually from 1 to 20."),
        (("stages", []), "The run 'student' has no stages; give it at least one."),
    ],
)
def test_what_is_not_a_valid_run_is_refused_with_a_sentence(change, sentence):
    with pytest.raises(UserError) as caught:
        decode(Run, changed(STUDENT, *change))
    assert str(caught.value).startswith(f"This is not a valid Run: {sentence}")


@pytest.mark.parametrize("value", [3, None, "run", [1]])
def test_what_is_no_object_at_all_is_refused(value):
    with pytest.raises(UserError) as caught:
        decode(Run, value)
    assert str(caught.value) == f"This is not a valid Run: expected the fields of a Run, got {value!r}."


def test_a_final_kind_is_not_read_from_another_classs_fields():
    with pytest.raises(UserError, match=r"^This is not a valid Labels: .* got those of 'potstill\.methods\.kd:KD'\.$"):
        decode(Labels, {"is": "potstill.methods.kd:KD"})


def test_whole_numbers_and_numbers_may_be_written_either_way():
    run = decode(Run, changed(STUDENT, "batch_size", 50.0))
    assert run == STUDENT
    assert type(run.batch_size) is int
    term = decode(KD, {"temperature": 2})
    assert term == KD(temperature=2.0)
    assert type(term.temperature) is float


def test_4_and_4_0_are_one_digest_and_order_does_not_matter():
    assert digest({"b": [1, 4.0], "a": None}) == digest({"a": None, "b": (1.0, 4)})
    assert digest({"a": 4}) != digest({"a": 4.5})
    assert digest({"a": 1}) != digest({"a": True})
    assert digest({"a": "4"}) != digest({"a": 4})
    assert digest([1, 2]) != digest([2, 1])
    # A digest by hand: SHA-256 of '{"a":4}'.
    assert digest({"a": 4.0}) == "17e7d2b31edd9f05e7b330a13f9bb644babad3b5bce9a7cf5bb4c28c4a02332f"


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        digest({"a": float("nan")})


def test_a_field_that_came_later_is_written_only_where_it_says_something():
    plain, paired = Data(name="digits"), Data(name="digits", companion="classmate")
    assert "companion" not in encode(plain)
    assert encode(paired) == encode(plain) | {"companion": "classmate"}
    assert decode(Data, encode(plain)) == plain
    assert decode(Data, encode(paired)) == paired
