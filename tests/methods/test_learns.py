"""What a term says of itself without being run, which `potstill list` repeats, is so."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from methods.maps import START
from methods.terms import CLASSES, TERMS, Pair, batch, every_term, fitting, made
from potstill.objective import loss_of
from potstill.term import Term
from potstill.verbs import catalogue

# With ε = 1 the label's share is multiplied by what leaves it as it is.
TURNED: Mapping[str, Mapping[str, Any]] = {"OFA": {"eps": 2.0}}


def loss(kind: type[Term], shift: int) -> float:
    """A fresh pair's loss, with each label moved on by some classes."""
    _, student, teacher = fitting(kind)
    pair = Pair(made(kind, **TURNED.get(kind.__name__, {})), student, teacher)
    shown = batch()
    shown = shown._replace(labels=(shown.labels + shift) % CLASSES)
    torch.manual_seed(0)
    return loss_of(pair.term, shown, *pair.traces(shown), pair.part, START).item()


@every_term
def test_it_learns_if_and_only_if_it_says_so(kind: type[Term]):
    pair, _, _ = fitting(kind)
    moving = [name for name, parameter in pair.learned.named_parameters() if parameter.requires_grad]
    assert kind.learns == bool(moving), moving


@every_term
def test_it_reads_labels_if_and_only_if_it_says_so(kind: type[Term]):
    assert kind.reads_labels == (loss(kind, 0) != loss(kind, 1))


@every_term
def test_its_options_have_defaults_so_that_it_can_be_listed(kind: type[Term]):
    told = catalogue.method(kind)
    term = kind()
    assert told["learned"] is kind.learns
    assert told["taps"] == {"student": len(term.student_taps), "teacher": len(term.teacher_taps)}
    assert ("labels" in told["needs"]) == kind.reads_labels
    whom = "peers" if kind.modes == ("online",) else "several teachers" if kind.several else "teacher"
    assert (whom in told["needs"]) == term.needs_teacher


@pytest.mark.parametrize("name", ["name", "term"])
def test_every_term_is_listed(name: str):
    told = {entry[name] for entry in catalogue.catalogue()["methods"]}
    assert told == {{"name": kind.__module__.rpartition(".")[2], "term": kind.__name__}[name] for kind in TERMS}
