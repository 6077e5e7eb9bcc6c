"""What every term of the package must do; a term that a file adds is found here by itself."""

import dataclasses
import pickle
import re
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import tiny
import torch
from torch import nn

from methods.maps import START
from methods.terms import (
    BATCH,
    CLASSES,
    NETWORKS,
    PAIRS,
    SEEDS,
    SLOW,
    TERMS,
    Pair,
    batch,
    every_term,
    fitting,
    images,
    made,
    network,
    pair_or_refusal,
)
from potstill.codec import decode, encode
from potstill.data import CropFlip, Data, load
from potstill.display import Silent
from potstill.errors import UserError
from potstill.learner import Learner
from potstill.machine import Machine
from potstill.models import Network, aliases, build
from potstill.objective import Objective, loss_of
from potstill.run import Run
from potstill.seeds import fold
from potstill.stage import Stage
from potstill.taps import trace
from potstill.teachers import Ensemble, Given, Teacher
from potstill.term import Term
from potstill.types import Batch, Trace


def test_terms_are_found():
    assert {"KD", "Labels"} <= {kind.__name__ for kind in TERMS}


@every_term
def test_it_says_what_it_is(kind: type[Term]):
    assert kind.knowledge in ("label", "response", "feature", "relation")
    assert kind.citation
    assert (kind.__doc__ or "").partition("\n")[0].endswith(".")
    assert made(kind).key == kind.__name__.lower()


@every_term
@pytest.mark.parametrize(("student", "teacher"), PAIRS, ids=["equal", "wider", "larger maps", "of another kind"])
def test_it_builds_from_a_dry_run_and_its_gradients_go_where_they_should(kind: type[Term], student: str, teacher: str):
    pair = pair_or_refusal(made(kind), student, teacher)
    if pair is None:
        assert student != teacher
        return
    assert bool(pair.traces(batch())[1].members) == kind.several
    moving = [p for p in pair.learned.parameters() if p.requires_grad]
    loss = pair.loss()
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    reached = [p.grad for p in pair.student.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in reached)
    assert any(grad.abs().sum() > 0 for grad in reached)
    for parameter in moving:
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert all(parameter.grad is None for parameter in pair.teacher.parameters())


@every_term
def test_a_short_and_a_long_batch_are_read_too(kind: type[Term]):
    """The last of an epoch, and the larger ones of validation."""
    pair, _, _ = fitting(kind)
    assert pair.loss(images=2).isfinite()
    pair.learned.eval()
    with torch.no_grad():
        assert pair.loss(images=2 * BATCH + (1 if kind.companion is None else 2)).isfinite()


RIGHT, WRONG = [0, 2, 3], [1, 4, 5]


def of_the_right(kind: type[Term]) -> Term | None:
    """The term over the images that the teacher gets right, or None where its refusal is one sentence."""
    try:
        term = made(kind, only_right=True)
    except UserError as refusal:
        told = str(refusal)
        assert re.fullmatch(r"[^\n]{10,} only_right[^\n]*\.", told)
        return None
    return dataclasses.replace(term, weight=min(term.weight, 1.0))


def answer(pair: Pair, right: Sequence[int]) -> tuple[Batch, Trace, Trace]:
    """A batch, what the student says, cut off from its weights, and what a teacher says that gets these rows right."""
    shown = batch()
    ours, theirs = pair.traces(shown)
    logits = theirs.logits.clone()
    for row, label in enumerate(shown.labels.tolist()):
        logits[row, label] = logits[row].max() + 1 if row in right else logits[row].min() - 1
    leaves = {tap: value.detach().requires_grad_() for tap, value in ours.taps.items()}
    return shown, Trace(ours.logits.detach().requires_grad_(), leaves), Trace(logits, theirs.taps, theirs.members)


def shown_of(trace: Trace, rows: Sequence[int]) -> Trace:
    """What a trace says of some of the images."""
    taps = {tap: value[rows] for tap, value in trace.taps.items()}
    return Trace(trace.logits[rows], taps, tuple(shown_of(member, rows) for member in trace.members))


@every_term
def test_only_what_the_teacher_gets_right_counts_where_that_is_asked(kind: type[Term]):
    if (term := of_the_right(kind)) is None:
        return
    pair, _, _ = fitting(kind)
    assert term.needs_teacher
    shown, ours, theirs = answer(pair, RIGHT)
    some = Batch(shown.inputs[RIGHT], shown.labels[RIGHT], shown.index[RIGHT], shown.view[RIGHT])
    of_some = [shown_of(trace, RIGHT) for trace in (ours, theirs)]
    torch.manual_seed(1)
    want = pair.term.loss(some, of_some[0], of_some[1], deepcopy(pair.part), START) * len(RIGHT) / BATCH
    torch.manual_seed(1)
    found = loss_of(term, shown, ours, theirs, deepcopy(pair.part), START)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=0)
    torch.manual_seed(1)
    assert found != loss_of(pair.term, shown, ours, theirs, deepcopy(pair.part), START)
    grads = torch.autograd.grad(found, [ours.logits, *ours.taps.values()], allow_unused=True)
    reached = [grad for grad in grads if grad is not None]
    assert any(grad[RIGHT].abs().sum() > 0 for grad in reached)
    assert not any(grad[WRONG].any() for grad in reached)


def reversed_logits(trace: Trace) -> Trace:
    """What a trace says with other logits, and so do its members."""
    return Trace(trace.logits.flip(1), trace.taps, tuple(map(reversed_logits, trace.members)))


@every_term
def test_it_says_whether_it_reads_the_teachers_logits(kind: type[Term]):
    pair, _, _ = fitting(kind)
    shown, ours, theirs = answer(pair, RIGHT)
    found: list[torch.Tensor] = []
    for said in (theirs, reversed_logits(theirs)):
        torch.manual_seed(1)
        found.append(pair.term.loss(shown, ours, said, deepcopy(pair.part), START))
    assert torch.equal(*found) == (not pair.term.needs_logits)
    of_right = of_the_right(kind)
    assert of_right is None or of_right.needs_logits


@every_term
def test_a_teacher_that_is_hardly_ever_right_teaches_nothing_for_a_step(kind: type[Term]):
    if (term := of_the_right(kind)) is None:
        return
    pair, _, _ = fitting(kind)
    objective = Objective(pair.student, pair.learned, [term], trace(pair.student, aliases=aliases(pair.student)))
    learner = Learner(objective, Stage(terms=(term,), epochs=1, optimizer=SLOW), Machine(), seed=1, steps_per_epoch=3)
    moved = [dict(pair.student.named_parameters()), pair.learned.state_dict()]
    start = deepcopy(moved)
    for step, right in enumerate(([], [4])):
        shown, _, theirs = answer(pair, right)
        learner.step(shown, theirs, step)
        assert learner.means()["loss"] == 0
        for before, after in zip(
            start, [dict(pair.student.named_parameters()), pair.learned.state_dict()], strict=True
        ):
            assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert not any(parameter.grad.any() for parameter in objective.parameters() if parameter.grad is not None)
    shown, _, theirs = answer(pair, range(BATCH))
    learner.step(shown, theirs, 2)
    assert learner.finite()
    assert any(not torch.equal(start[0][name], value) for name, value in pair.student.named_parameters())


@every_term
def test_what_it_learns_survives_a_state_dict(kind: type[Term]):
    pair, student, teacher = fitting(kind)
    pair.loss().backward()
    other = Pair(made(kind), student, teacher)
    with torch.no_grad():
        for tensor in pair.learned.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1.5)
    other.learned.load_state_dict(pair.learned.state_dict())
    for (name, mine), (_, theirs) in zip(
        pair.learned.state_dict().items(), other.learned.state_dict().items(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    # From the same state, and the same student, the same loss.
    other.student.load_state_dict(pair.student.state_dict())
    assert torch.equal(pair.loss(step=3), other.loss(step=3))


@every_term
def test_as_a_specification_it_survives_json_and_pickle(kind: type[Term]):
    term = made(kind, weight=0.25, warmup=3.0, name="other")
    assert decode(Term, encode(term)) == term
    assert pickle.loads(pickle.dumps(term)) == term


@cache
def data(companion: Literal["view", "classmate"] | None) -> Data:
    """Sixteen images to learn from: batches of 6, 6 and 4; where they come with companions, shifted."""
    augment = None if companion is None else CropFlip(padding=1)
    given = Data.given((*images(20, 1), *images(8, 2)), name="tiny", validation=0.2, augment=augment)
    return dataclasses.replace(given, companion=companion)


@cache
def given(name: str, seed: int) -> Given:
    """A network that has learned the images by heart."""
    net = deepcopy(network(name, seed)).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    x, y = (torch.from_numpy(part) for part in images(20, 1))
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return Given(Network.given(net, CLASSES))


def teacher(name: str, several: bool) -> Teacher:
    """One such network, or an ensemble of some."""
    taught = [given(name, seed) for seed in SEEDS[several]]
    return Ensemble(tuple(taught)) if several else taught[0]


def run(kind: type[Term]) -> Run:
    _, student, other = fitting(kind)
    term = made(kind)
    stage = Stage(terms=(dataclasses.replace(term, weight=min(term.weight, 1.0)),), epochs=1, optimizer=SLOW)
    fields: dict[str, Any] = {
        "data": data(kind.companion),
        "teacher": teacher(other, kind.several),
        "batch_size": BATCH,
    }
    return tiny.run(kind.__name__, student=NETWORKS[student], stages=[stage], **fields)


@cache
def alone(kind: type[Term], folder: Path) -> dict[str, Any]:
    return tiny.told(tiny.train_in(folder / "alone", [run(kind)])[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contract")


@every_term
def test_training_changes_the_student_and_ends(kind: type[Term], folder: Path):
    told = alone(kind, folder)
    assert told["result"]["status"] == "finished"
    assert told["result"]["steps"] == 3
    spec = run(kind)
    torch.manual_seed(fold(spec.seed, "student"))
    start = dict(build(spec.student).named_parameters())
    end = safetensors.torch.load(told["weights"]["student.safetensors"])
    assert any(not torch.equal(start[name].detach(), end[name]) for name in start)


@every_term
def test_what_ships_is_the_plain_student(kind: type[Term], folder: Path):
    spec, told = run(kind), alone(kind, folder)
    network, resident = build(spec.student), load(spec.data)
    network.load_state_dict(safetensors.torch.load(told["weights"]["student.safetensors"]), strict=True)
    said = safetensors.torch.load(told["weights"]["predictions.safetensors"])["logits"].float()
    with torch.no_grad():
        logits = network.eval()(resident.batch(resident.test, torch.arange(len(resident.test))).inputs)
    torch.testing.assert_close(logits, said, rtol=2e-3, atol=2e-3)  # Kept as half floats.


def test_in_one_cohort_all_terms_learn_what_they_learn_alone(folder: Path):
    cohorts: dict[tuple[Any, ...], list[tuple[Run, type[Term]]]] = {}
    for member, kind in ((run(kind), kind) for kind in TERMS):
        assert member.teacher is not None
        cohorts.setdefault((member.teacher.identity(), kind.companion), []).append((member, kind))
    for cohort in cohorts.values():
        folders = tiny.train_in(folder / "together", [member for member, _ in cohort])
        for path, (_, kind) in zip(folders, cohort, strict=True):
            assert tiny.told(path) == alone(kind, folder), kind.__name__


class _Power(Exception):
    """The current fails."""


class _Cut(Silent):
    """A display that ends the training after its second step."""

    def at(self, what: str, step: int) -> None:
        if step == 2:
            raise _Power


@every_term
def test_it_goes_on_bitwise_where_it_was_cut(kind: type[Term], folder: Path, tmp_path: Path):
    spec = run(kind)
    with pytest.raises(_Power):
        tiny.train_in(tmp_path, [spec], pause=0, display=_Cut())
    assert list(tmp_path.glob("*/checkpoint.safetensors"))
    assert tiny.told(tiny.train_in(tmp_path, [spec])[0]) == alone(kind, folder)
