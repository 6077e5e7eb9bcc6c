"""What every term of the package must do; a term that a file adds is found here by itself."""

import dataclasses
import importlib
import pickle
import pkgutil
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from torch import Tensor, nn

from methods.maps import plan
from potstill import methods
from potstill.codec import decode, encode
from potstill.data import Data
from potstill.display import Silent
from potstill.errors import UserError
from potstill.models import Network, aliases, build
from potstill.objective import dry_run, learn
from potstill.optim import Optimizer
from potstill.run import Run
from potstill.seeds import fold
from potstill.stage import Stage
from potstill.taps import trace
from potstill.teacher import Given
from potstill.term import Progress, Term
from potstill.types import Batch, Trace

CLASSES, SIDE, BATCH = 4, 16, 6

# What fields without a default are given, by the name of the field.
ARGUMENTS: Mapping[str, Any] = {"temperature": 4.0, "alpha": 0.5, "population": 18}

VIT: dict[str, bool | int | float | str] = {
    "img_size": SIDE,
    "patch_size": 2,
    "depth": 4,
    "embed_dim": 24,
    "num_heads": 2,
}
NETWORKS = {
    "resnet8": Network("resnet8", CLASSES),
    "wrn_16_2": Network("wrn_16_2", CLASSES),
    "torchvision": Network("torchvision:resnet18", CLASSES),
    "vit": Network("timm:vit_tiny_patch16_224", CLASSES, options=VIT),
}
# Student and teacher: equal, of other widths, of other widths and resolutions, and of another kind.
PAIRS = [("resnet8", "resnet8"), ("resnet8", "wrn_16_2"), ("torchvision", "resnet8"), ("resnet8", "vit")]


def found() -> list[type[Term]]:
    kinds: dict[str, type[Term]] = {}
    for info in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
        module = importlib.import_module(info.name)
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Term) and kind.__module__ == info.name:
                kinds[kind.__name__] = kind
    return [kinds[name] for name in sorted(kinds)]


TERMS = found()
every_term = pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)


def made(kind: type[Term], **options: Any) -> Term:
    due = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    return kind(**{name: ARGUMENTS[name] for name in due}, **options)


@cache
def network(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = build(NETWORKS[name])
    # Some initial classifiers are zero, through which no gradient flows back.
    last = net.get_submodule(aliases(net)["logits"])
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.1)
    return net


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32), np.arange(count) % CLASSES


def batch(count: int = BATCH) -> Batch:
    x, y = images(count, 3)
    zeros = torch.zeros(count, dtype=torch.int64)
    return Batch(torch.from_numpy(x), torch.from_numpy(y), torch.arange(count), zeros)


# Without weight decay, so that nothing moves but by gradients.
SLOW = Optimizer(name="SGD", learning_rate=0.002, options={"momentum": 0.9})


class Pair:
    """A student, a teacher, a term between them and what it learns."""

    def __init__(self, term: Term, student: str, teacher: str):
        self.term = term
        self.student = deepcopy(network(student, 1)).train()
        self.teacher = deepcopy(network(teacher, 2)).eval()
        self.learned = nn.ModuleDict()
        shown = dry_run(self.student, term.student_taps, self.teacher, term.teacher_taps, (3, SIDE, SIDE), CLASSES)
        learn([term], self.learned, *shown, plan(self.teacher, self.student, BATCH, CLASSES, images=18), 7)

    @property
    def part(self) -> nn.Module | None:
        return next(iter(self.learned.values()), None)

    def loss(self, images: int = BATCH, step: int = 0) -> Tensor:
        shown = batch(images)
        ours = trace(self.student, aliases=aliases(self.student))(shown.inputs, self.term.student_taps)
        # With gradients, so that one which reaches the teacher is seen.
        theirs = trace(self.teacher, aliases=aliases(self.teacher))(shown.inputs, self.term.teacher_taps)
        torch.manual_seed(step)
        return self.term.loss(shown, ours, _leaves(theirs), self.part, Progress(step, 0.0, 1))


def _leaves(answer: Trace) -> Trace:
    """What an outside teacher hands out: nothing that leads back to its parameters."""
    return Trace(answer.logits.detach(), {name: tap.detach() for name, tap in answer.taps.items()})


def pair_or_refusal(term: Term, student: str, teacher: str) -> Pair | None:
    """The pair, or None where its refusal is one sentence that names what does not fit."""
    try:
        return Pair(term, student, teacher)
    except UserError as refusal:
        told = str(refusal)
        assert told.endswith((".", "?"))
        assert "\n" not in told
        assert 30 < len(told) < 400
        return None


def fitting(kind: type[Term]) -> tuple[Pair, str, str]:
    """Networks of unlike widths where a term takes them, else equal ones."""
    for student, teacher in (PAIRS[1], PAIRS[0]):
        if (pair := pair_or_refusal(made(kind), student, teacher)) is not None:
            return pair, student, teacher
    raise AssertionError(f"{kind.__name__} refuses equal networks")


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
        assert pair.loss(images=2 * BATCH + 1).isfinite()


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
def data() -> Data:
    """Sixteen images to learn from: batches of 6, 6 and 4."""
    return Data.given((*images(20, 1), *images(8, 2)), name="tiny", validation=0.2)


@cache
def teacher(name: str) -> Given:
    """A network that has learned the images by heart."""
    net = deepcopy(network(name, 2)).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    x, y = (torch.from_numpy(part) for part in images(20, 1))
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return Given(Network.given(net, CLASSES))


def run(kind: type[Term]) -> Run:
    _, student, other = fitting(kind)
    term = made(kind)
    stage = Stage(terms=(dataclasses.replace(term, weight=min(term.weight, 1.0)),), epochs=1, optimizer=SLOW)
    fields: dict[str, Any] = {"data": data(), "teacher": teacher(other), "batch_size": BATCH}
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


def test_in_one_cohort_all_terms_learn_what_they_learn_alone(folder: Path):
    runs = [run(kind) for kind in TERMS]
    for name in dict.fromkeys(r.teacher.identity() for r in runs if r.teacher is not None):
        members = [(r, k) for r, k in zip(runs, TERMS, strict=True) if r.teacher and r.teacher.identity() == name]
        folders = tiny.train_in(folder / "together", [member for member, _ in members])
        for path, (_, kind) in zip(folders, members, strict=True):
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
