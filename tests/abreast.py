"""Trainings that several processes share, and these processes, which this file is when it is run as a script.

Students have no batch norm that counts, because its statistics are those of a slice; teachers, and what terms learn,
do have it.
"""

import dataclasses
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from kills import Script
from methods.terms import CLASSES, TERMS, fitting, images, made, network
from torch import Tensor, nn
from torch import distributed as dist

from potstill import methods, ranks
from potstill.cohort import train
from potstill.data import CropFlip, Data
from potstill.display import Silent
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import KD, RKD, Labels, Mutual, Similarity
from potstill.models import Network, aliases
from potstill.optim import Optimizer
from potstill.run import Run
from potstill.stage import Stage
from potstill.teachers import EMA, Ensemble, Given, OwnPast, Peers, Shuffled, Teacher
from potstill.teachers.peers import Update
from potstill.term import Term
from potstill.types import Trace

BATCH = 7
"""Sixteen images make batches of 7, 7 and 2: slices of 4 and 3, and a batch that is too short to be shared."""

SLOW = Optimizer(name="SGD", learning_rate=0.002, options={"momentum": 0.9})

WEIGHTS = {"dist": 0.1, "pkt": 1e3, "cckernel": 1e3, "vid": 100, "mgd": 0.1}
"""Of terms that would otherwise move a student hardly or wildly."""


class Still(nn.BatchNorm2d):
    """Batch norm by statistics that never move: it scales and shifts."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(input, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


@cache
def still(seed: int, name: str = "resnet8") -> Network:
    """A student: its batch norm stands still."""
    found = deepcopy(network(name, seed))
    for module in found.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = Still
    return Network.given(found, CLASSES)


@cache
def given(name: str, seed: int) -> Given:
    """A teacher that knows the images: its classifier is fitted to its features by least squares."""
    found = deepcopy(network(name, seed)).eval()
    last = found.get_submodule(aliases(found)["logits"])
    assert isinstance(last, nn.Linear)
    x, y = (torch.from_numpy(part) for part in images(20, 1))
    seen: list[torch.Tensor] = []
    with last.register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
        found(x)
        wanted = 6 * nn.functional.one_hot(y, CLASSES).float() - 1.5
        last.weight.copy_(torch.linalg.lstsq(seen[0], wanted, driver="gelsd").solution.T)
        last.bias.zero_()
    return Given(Network.given(found, CLASSES))


def teacher(name: str, several: bool = False) -> Teacher:
    """One of these, or an ensemble."""
    return Ensemble(tuple(given(name, seed) for seed in (2, 3, 4))) if several else given(name, 2)


@cache
def data(companion: Any) -> Data:
    """Sixteen images to learn from, four to choose by."""
    augment = None if companion is None else CropFlip(padding=1)
    found = Data.given((*images(20, 1), *images(8, 2)), name="tiny", validation=0.2, augment=augment)
    return dataclasses.replace(found, companion=companion)


def run(name: str, by: Teacher | None, *terms: Term, companion: Any = None, **fields: Any) -> Run:
    """Two epochs of three steps."""
    stage = Stage(terms=terms, epochs=2, optimizer=SLOW)
    usual: dict[str, Any] = {"student": still(1), "data": data(companion), "teacher": by, "batch_size": BATCH}
    return tiny.run(name, stages=[stage], **{**usual, **fields})


def of_term(kind: type[Term]) -> Run:
    """A run with one term of the package."""
    _, _, other = fitting(kind)
    term = made(kind)
    term = dataclasses.replace(term, weight=WEIGHTS.get(term.key, min(term.weight, 1.0)))
    return run(kind.__name__, teacher(other, kind.several), term, companion=kind.companion)


def peers(update: Update) -> list[Run]:
    """Three networks that learn from each other's answers and relations."""
    terms = (
        Labels(),
        Mutual(temperature=2),
        Similarity(student=("stage2",), teacher=("stage2",), weight=10),
        RKD(weight=0.1),
        methods.Hint(student=("stage1",), teacher=("stage1",)),
    )
    return [run(f"peers {update}", Peers((still(5), still(6, "wrn_16_2")), update), *terms)]


def right() -> list[Run]:
    """Only the images that the teacher gets right."""
    terms = [KD(only_right=True), Similarity(student=("stage2",), teacher=("stage2",), only_right=True)]
    return [run("right", Shuffled(given("resnet8", 2)), Labels(), *terms)]


CASES: Mapping[str, Callable[[], list[Run]]] = {
    **{kind.__name__: (lambda kind=kind: [of_term(kind)]) for kind in TERMS},
    "peers together": lambda: peers("together"),
    "peers in turn": lambda: peers("in turn"),
    "average": lambda: [run("average", EMA(0.9), Labels(), KD(), methods.Attention())],
    "past": lambda: [run("past", OwnPast(), Labels(), KD(temperature=2))],
    "right": right,
    "norm": lambda: [run("norm", given("resnet8", 2), Labels(), KD(), student=Network("resnet8", CLASSES))],
    "drops": lambda: [run("drops", None, Labels(), student=tiny.dropping(), data=tiny.data())],
}
"""What two processes train."""

NEAR = [name for name in CASES if name not in ("norm", "drops")]
"""Those that must come out as one process has them."""


def in_common() -> None:
    """Checks of what processes do together, made by each of them."""
    rank, count = dist.get_rank(), ranks.count()
    assert ranks.agreed({"rank": rank}) == {"rank": 0}
    assert ranks.leads() == (rank == 0)
    gradient, other = torch.full((2, 3), float(rank)), torch.full((5,), rank, dtype=torch.float64)
    ranks.average([gradient, other, gradient[:0]])
    assert gradient.eq((count - 1) / 2).all()
    assert other.eq((count - 1) / 2).all()
    for size in (2 * count - 1, 2 * count, 2 * count + 1, 5 * count - 1):
        _divided(size)
    _drawn(4 * count)
    flat = ranks.divided(lambda inputs, taps: Trace(inputs.flatten(1), {"table": torch.zeros(5, 2)}))
    with pytest.raises(UserError) as mistake:
        flat(torch.zeros(3 * count, 2), ("table",))
    assert str(mistake.value) == (
        "tap 'table' of 3 images is of shape (5, 2), which cannot be put together from several devices; run it with "
        "--devices 1."
    )


def _divided(images: int) -> None:
    """Values, memory layout and gradients are those of the whole batch."""
    torch.manual_seed(1)
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = torch.randn(images, 3, 5, 5).to(memory_format=torch.channels_last)
    seen: list[int] = []

    def run(inputs: Tensor, taps: tuple[str, ...]) -> Trace:
        seen.append(len(inputs))
        maps = net(inputs)
        windows = maps.bfloat16().flatten(2).transpose(1, 2).reshape(-1, 3, 4)  # Three of each image.
        return Trace(maps.mean((2, 3)), {"maps": maps, "windows": windows, "signs": maps > 0})

    want, found = run(x, ()), ranks.divided(run)(x, ())
    share = images / ranks.count()
    assert seen[1] == (images if share < 2 else ranks.slices(images, ranks.count())[dist.get_rank()])
    for a, b in zip((want.logits, *want.taps.values()), (found.logits, *found.taps.values()), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert found.taps["maps"].is_contiguous(memory_format=torch.channels_last)
    factor = torch.randn(images, images)
    grads: list[Tensor] = []
    for answer in (want, found):
        net.zero_grad()
        relation = answer.logits @ answer.logits.T
        loss = (factor * relation).sum() + answer.taps["maps"].square().sum() + answer.taps["windows"].float().sum()
        loss.backward()
        assert net.weight.grad is not None
        grads.append(net.weight.grad.clone())
    ranks.average(grads[1:])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-4)


def _drawn(images: int) -> None:
    """Each slice has draws of its own; afterwards the generator stands where it stood."""
    torch.manual_seed(2)
    x, before = torch.ones(images, 50), torch.get_rng_state()

    def drop(inputs: Tensor, taps: tuple[str, ...]) -> Trace:
        return Trace(nn.functional.dropout(inputs), {})

    first, again, second = (ranks.divided(drop, place)(x, ()).logits for place in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    parts = first.chunk(ranks.count())
    assert not any(torch.equal(parts[0], part) for part in parts[1:])
    whole = first.clone()
    ranks.average([whole])
    assert torch.equal(whole, first)  # All of them hold the same.


class _Doomed(Silent):
    """A display that kills the process after a step."""

    def __init__(self, last: int):
        self._last = last

    def at(self, what: str, step: int) -> None:
        if step == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def trained(case: str, folder: Path, last: int = 0) -> Path:
    """Train a case, alone or as one of several processes; returns its run folder.

    Args:
        case: Its name.
        folder: Of all cases.
        last: The step after which the process kills itself, and until which it writes a checkpoint before each; or 0.
    """
    conditions = tiny.conditions(folder / case, 0 if last else 1e9)
    (found,) = train(CASES[case](), Machine(devices=ranks.count()), conditions, _Doomed(last) if last else Silent())
    return found


class Crowd(Script):
    """Processes that do something together: children of one that has imported everything once."""

    def __init__(self) -> None:
        super().__init__(__file__)

    def train(self, cases: Sequence[str], folder: Path, last: int = 0) -> list[int]:
        """Two processes train cases, one after another (see `trained`); returns how they ended."""
        task = {"cases": list(cases), "folder": str(folder), "last": last}
        return json.loads(self.ask({"count": 2, "task": task}))

    def check(self, count: int) -> list[int]:
        """So many processes check what they do in common; returns how they ended."""
        return json.loads(self.ask({"count": count, "task": {}}))


def _child(rank: int, count: int, store: Path, task: dict[str, Any]) -> None:
    ranks.join(rank, count, store, "cpu")
    if not task:
        in_common()
    for case in task.get("cases", ()):
        trained(case, Path(task["folder"]), task["last"])
    ranks.leave()


def _born(rank: int, count: int, store: Path, task: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _child(rank, count, store, task)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        count, task = asked["count"], asked["task"]
        with tempfile.TemporaryDirectory() as folder:
            children = [_born(rank, count, Path(folder) / "store", task) for rank in range(count)]
            ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    _main()
