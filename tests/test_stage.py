import math
from typing import Any

import pytest

from potstill.errors import UserError
from potstill.methods import KD, Labels
from potstill.optim import Cosine, MultiStep, Optimizer, Warmup
from potstill.stage import EarlyStopping, Stage


def stage(**options: Any) -> Stage:
    fields: dict[str, Any] = {"terms": (Labels(),), "epochs": 10, "optimizer": Optimizer(), **options}
    return Stage(**fields)


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_nll"])
def test_a_loss_improves_when_it_falls_by_more_than_min_delta(monitor):
    stop = EarlyStopping(monitor=monitor, min_delta=0.25)
    assert stop.improved(3.0, None)
    assert stop.improved(1.0, 1.5)
    assert not stop.improved(1.25, 1.5)  # Exactly min_delta is not enough.
    assert not stop.improved(2.0, 1.5)
    assert not stop.improved(math.nan, 1.5)


def test_accuracy_improves_when_it_rises():
    stop = EarlyStopping(monitor="validation_accuracy", min_delta=0.25)
    assert stop.improved(0.0, None)
    assert stop.improved(0.75, 0.25)
    assert not stop.improved(0.5, 0.25)
    assert not stop.improved(0.0, 0.25)


def test_without_min_delta_the_same_value_is_no_improvement():
    assert not EarlyStopping().improved(0.5, 0.5)
    assert EarlyStopping().improved(math.nextafter(0.5, 0), 0.5)


def test_a_scaled_stage_keeps_the_shares_of_its_schedule_and_warm_ups():
    terms = (Labels(), KD(warmup=4.0, temperature=2.0))
    schedule = Warmup(then=MultiStep(milestones=(5, 8)), epochs=2)
    stop = EarlyStopping(patience=3)
    long = stage(terms=terms, schedule=schedule, stop=stop, train=("student.*",), name="second")
    short = long.scaled(5)
    assert short == stage(
        terms=(Labels(), KD(warmup=2.0, temperature=2.0)),
        epochs=5,
        schedule=Warmup(then=MultiStep(milestones=(2.5, 4)), epochs=1),
        stop=stop,
        train=("student.*",),
        name="second",
    )
    assert short.scaled(10) == long
    assert stage(schedule=Cosine()).scaled(30) == stage(schedule=Cosine(), epochs=30)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: stage(epochs=0), r"The stage 'train' lasts 0 epochs; expected a whole number ≥ 1\."),
        (
            lambda: stage(terms=(), name="hint"),
            r"The stage 'hint' has no terms; give it at least one, Labels\(\) say\.",
        ),
        (
            lambda: stage(terms=(KD(), Labels(), KD(temperature=2))),
            r"Two terms of the stage 'train' are called 'kd'; give one another name=\.",
        ),
        (
            lambda: stage(terms=(Labels(name="a.b"),)),
            r"A term is called 'a\.b'; expected a name without '\.' and '/'\.",
        ),
        (
            lambda: stage(terms=(Labels(name="a/b"),)),
            r"A term is called 'a/b'; expected a name without '\.' and '/'\.",
        ),
        (
            lambda: EarlyStopping(patience=0),
            r"The patience of early stopping is 0; expected a whole number ≥ 1\.",
        ),
        (
            lambda: EarlyStopping(min_delta=-0.5),
            r"The min_delta of early stopping is -0\.5; expected a number ≥ 0\.",
        ),
        (
            lambda: EarlyStopping(min_delta=math.nan),
            r"The min_delta of early stopping is nan; expected a number ≥ 0\.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(make, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        make()


def test_two_terms_of_a_kind_go_together_under_names_of_their_own():
    pair = stage(terms=(KD(), KD(temperature=2, name="sharp")))
    assert [term.key for term in pair.terms] == ["kd", "sharp"]
