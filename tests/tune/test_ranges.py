"""What `--over` is given, as ranges; whatever is wrong with it is told in one sentence."""

from typing import Literal

import pytest

from potstill import UserError
from potstill.tune.ranges import Choice, Range, Span, read

KINDS = {
    "temperature": float,
    "width": int,
    "learning_rate": float | None,
    "method": str,
    "companion": Literal["view", "classmate"] | None,
    "published": bool,
}

READ: dict[str, Range] = {
    "temperature=1:16": Span("temperature", 1.0, 16.0),
    "--temperature=.5:2": Span("temperature", 0.5, 2.0),
    "width=2:8": Span("width", 2, 8, whole=True),
    "learning-rate=1e-4:1:log": Span("learning_rate", 1e-4, 1.0, log=True),
    "learning_rate=.1,1": Choice("learning_rate", (0.1, 1.0)),
    "width=4,8,16": Choice("width", (4, 8, 16)),
    "method=kd, dkd": Choice("method", ("kd", "dkd")),
    "method=timm:a,timm:b": Choice("method", ("timm:a", "timm:b")),
    "companion=view,classmate": Choice("companion", ("view", "classmate")),
    "published=yes,no": Choice("published", (True, False)),
}

MISTAKES = {
    "temperatures=1:2": "--over temperatures=1:2: some:recipe has no flag 'temperatures'; did you mean 'temperature'?",
    "zzz=1:2": "some:recipe has no flag 'zzz'; expected one of temperature, width, ",
    "seed=1:2": "--over seed=1:2: --seed says how runs are made, not what they learn; tune one of temperature, ",
    "temperature": "--over temperature gives no values; write temperature=LOW:HIGH, ",
    "temperature=": "--over temperature= gives no values; ",
    "temperature=1:b": "--over temperature=1:b: expected two numbers, as in temperature=LOW:HIGH.",
    "temperature=2:1": "--over temperature=2:1: expected two numbers, the lower one first.",
    "temperature=1:inf": "--over temperature=1:inf: expected two numbers, the lower one first.",
    "temperature=1:2:3": "--over temperature=1:2:3 ends in '3'; expected LOW:HIGH, or LOW:HIGH:log.",
    "temperature=0:2:log": "--over temperature=0:2:log: a range by factors (log) begins above 0.",
    "temperature=1,x": "--over temperature=1,x: 'x' is not a number.",
    "width=1:2.5": "--over width=1:2.5: expected two whole numbers, as in width=LOW:HIGH.",
    "width=1,2.5": "--over width=1,2.5: '2.5' is not a whole number.",
    "companion=view,none": "--over companion=view,none: 'none' is not view, or classmate.",
    "published=yes,2": "--over published=yes,2: '2' is not true or false.",
    "method=kd": "--over method=kd: expected at least two values, each once, as in method=A,B,C.",
    "method=kd,kd": "--over method=kd,kd: expected at least two values, each once",
}


@pytest.mark.parametrize("text", READ)
def test_ranges(text: str):
    assert read([text], KINDS, ["seed"], "some:recipe") == (READ[text],)


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str):
    with pytest.raises(UserError) as mistake:
        read([text], KINDS, ["seed"], "some:recipe")
    assert MISTAKES[text] in str(mistake.value)


def test_something_has_to_be_tuned_and_once():
    with pytest.raises(UserError, match=r"^Nothing is to be tuned; write --over NAME=LOW:HIGH, with one of temp"):
        read([], KINDS, [], "some:recipe")
    with pytest.raises(UserError, match=r"^--over width was given twice; give each flag one range\.$"):
        read(["width=1:2", "width=3:4"], KINDS, [], "some:recipe")


def test_a_number_that_was_drawn_can_be_written_down_and_stays_in_its_range():
    span = Span("temperature", 0.123456, 16.0)
    assert span.value(3.14159265) == 3.142
    assert span.value(0.12341) == 0.123456
    assert Span("width", 2, 8, whole=True).value(5) == 5
    assert [span.holds(value) for value in (2, 17, None, True)] == [True, False, False, False]
