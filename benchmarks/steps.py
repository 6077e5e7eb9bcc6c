"""What training costs, and what the data, the teacher, methods and companions in a cohort add to it.

Every alternative is an epoch of 500 images: drawn, augmented and learned from just as a run does it.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.claims import against_peers, of_steps
from benchmarks.pairs import BATCH_SIZE, CIFAR, DIGITS, IMAGES, LABELS, SOFT, Bench, Pair
from benchmarks.peers import beside
from benchmarks.rounds import Row, in_turn
from benchmarks.table import Table
from potstill.learner import Learner
from potstill.machine import Choices, Machine
from potstill.methods import Labels
from potstill.models import ReusedHead
from potstill.pairing import Pairing, Taps
from potstill.store.kept import chunks
from potstill.taps import Tracer, trace
from potstill.teachers.source import Source

REPETITIONS = 7
COHORTS = (1, 4, 8)
KEPT_TURNS = 2
COMPILED = ", compiled"
FAMILIES = (
    "kd",
    "dkd",
    "dist",
    "hint",
    "attention",
    "similarity",
    "rkd",
    "crd",
    "review",
    "ofd",
    "semckd",
    "mgd",
    "simkd",
    "srrl",
)
Measure = Callable[[], float]


def measure(pair: Pair, repetitions: int = REPETITIONS, choices: Choices | None = None) -> Table:
    """Images per second, against the ceiling: the same student's bare step on one constant batch.

    In "kd, teacher live" the teacher is asked about every view that is shown, as in the first run of a teacher without
    a store; in "kd, answers kept" it said so before. A cohort's rate is that of the batches that all its students see.
    """
    bench = Bench(pair, choices)
    ways: dict[str, Measure] = {
        "constant batch": _constant(bench),
        "labels": _epochs(bench, [bench.learner(bench.run(*LABELS), None)], None),
        "teacher alone": _teacher(bench, bench.source(), BATCH_SIZE),
        "teacher alone, batches of 500": _teacher(bench, bench.source(), IMAGES),
        "teacher alone, not folded": _teacher(bench, bench.source(fold=False), BATCH_SIZE),
        "kd, teacher live": _taught(bench, 1),
        "kd, answers kept": _kept(bench),
        **{f"cohort of {size}": _taught(bench, size) for size in COHORTS},
    }
    rows = _beside_peers(ways, pair, bench, repetitions)
    claims = of_steps({row.name: row for row in rows}, bench.machine.device, judged=pair == CIFAR["resnet32x4"])
    return Table(f"Training {pair.name}: {bench.told()}", "images/s", rows, claims)


def families(repetitions: int = REPETITIONS) -> Table:
    """Images per second of one method of each kind, with the taps that the recipe gives it, against labels alone."""
    pair = CIFAR["resnet32x4"]
    bench = Bench(pair)
    pairing = Pairing(pair.teacher.name, pair.student.name, Taps.of(pair.teacher), Taps.of(pair.student))
    terms = pairing.methods()
    ways: dict[str, Measure] = {"labels": _epochs(bench, [bench.learner(bench.run(Labels()), None)], None)}
    for name in FAMILIES:
        source = bench.source()
        head: ReusedHead | None = pairing.reused if name == "simkd" else None
        student = pair.student if head is None else type(pair.student)(pair.student.name, 100, reused=head)
        ways[name] = _epochs(bench, [bench.learner(bench.run(*terms[name], student=student), source)], source)
    return Table(f"Methods, {pair.name}, teacher live: {bench.told()}", "images/s", in_turn(ways, repetitions))


def compiled(pair: Pair, repetitions: int = REPETITIONS) -> Table:
    """Images per second with and without `torch.compile`; the title says what compiling takes."""
    benches = {how: Bench(pair, Choices(compile=how)) for how in ("off", "on")}
    ways: dict[str, Measure] = {}
    for how, bench in benches.items():
        mark = COMPILED if how == "on" else ""
        ways[f"labels{mark}"] = _epochs(bench, [bench.learner(bench.run(*LABELS), None)], None)
        ways[f"teacher alone{mark}"] = _teacher(bench, bench.source(), BATCH_SIZE)
        ways[f"kd, teacher live{mark}"] = _taught(bench, 1)
        ways[f"kd, answers kept{mark}"] = _kept(bench)
    seconds: dict[str, float] = {}
    # What was compiled some other day would be read from there.
    with TemporaryDirectory() as empty, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=empty):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name] = time.perf_counter() - started
    spent = ", ".join(f"{seconds[f'{name}{COMPILED}']:.0f} s for {name}" for name in ("labels", "teacher alone"))
    rows = _beside_peers(ways, pair, benches["off"], repetitions)
    judged = pair == CIFAR["resnet32x4"]
    claims = against_peers({row.name: row for row in rows}, benches["off"].machine.device, judged, COMPILED)
    title = f"torch.compile, {pair.name}: {benches['off'].told()}; the first epoch took {spent}"
    return Table(title, "images/s", rows, claims)


def _beside_peers(ways: dict[str, Measure], pair: Pair, bench: Bench, repetitions: int) -> tuple[Row, ...]:
    """All of them in turn, and a peer-style loop where anybody would train such a pair so."""
    with ExitStack() as stack:
        if pair.peer_steps:
            ways["peer-style loop"] = stack.enter_context(beside(peers.steps, pair, bench.machine.device, BATCH_SIZE))
        return in_turn(ways, repetitions)


def _rate(bench: Bench, work: Callable[[], object]) -> float:
    """Images per second of an epoch."""
    bench.machine.activate()
    bench.wait()
    started = time.perf_counter()
    work()
    bench.wait()
    return IMAGES / (time.perf_counter() - started)


def _epochs(
    bench: Bench, learners: list[Learner], source: Source | None, turns: Iterable[int] | None = None
) -> Measure:
    """An epoch of a cohort, drawn as a run draws it; of a new turn each time, or of these over and over."""
    epochs = count() if turns is None else _cycle(tuple(turns))
    taps = tuple(dict.fromkeys(t for one in learners for term in one.stage.terms for t in term.teacher_taps))

    def epoch() -> None:
        number = next(epochs)
        turns = bench.draw.turns(number)
        for batch in bench.draw.batches(number):
            answer = None if source is None else source(batch, bench.resident.train, taps, turns)
            for learner in learners:
                learner.step(batch, answer, learner.stage_step)
        for learner in learners:
            learner.finite()  # As a run looks at the end of an epoch.

    return partial(_rate, bench, epoch)


def _cycle(turns: tuple[int, ...]) -> Iterator[int]:
    for place in count():
        yield turns[place % len(turns)]


def _taught(bench: Bench, size: int) -> Measure:
    """A cohort of students of soft targets with one teacher, who is asked anew in each epoch."""
    source = bench.source()
    return _epochs(bench, [bench.learner(bench.run(*SOFT), source) for _ in range(size)], source)


def _kept(bench: Bench) -> Measure:
    source = bench.source()
    for turn in range(KEPT_TURNS):
        source.answers(bench.resident.train, turn)
    return _epochs(bench, [bench.learner(bench.run(*SOFT), source)], source, range(KEPT_TURNS))


def _teacher(bench: Bench, source: Source, batch_size: int) -> Measure:
    """The teacher's passes over images that are there already."""
    assert source.network is not None
    network = trace(source.network.eval(), compile=bench.machine.compile)
    (whole,) = chunks(bench.resident, bench.resident.train)
    parts = torch.split(whole.inputs, batch_size)

    @torch.no_grad()
    def look() -> None:
        for part in parts:
            with bench.machine.autocast():
                network(part)

    return partial(_rate, bench, look)


def _constant(bench: Bench) -> Measure:
    """The bare step: forward, cross-entropy, backward, optimizer; as many images as in an epoch."""
    run = bench.run(*LABELS)
    learner = bench.learner(run, None)
    student, optimizer = trace(learner.objective.student.train(), compile=bench.machine.compile), learner.optimizer
    (whole,) = chunks(bench.resident, bench.resident.train)
    sizes = [len(batch.labels) for batch in bench.draw.batches(0)]

    def epoch() -> None:
        for size in sizes:
            _bare(student, optimizer, bench.machine, whole.inputs[:size], whole.labels[:size])

    return partial(_rate, bench, epoch)


def _bare(student: Tracer, optimizer: torch.optim.Optimizer, machine: Machine, inputs: Tensor, labels: Tensor) -> None:
    with machine.autocast():
        loss = nn.functional.cross_entropy(student(inputs).logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


MEASUREMENTS: dict[str, Callable[..., Table]] = {
    "step-digits": partial(measure, DIGITS),
    **{f"step-{name}": partial(measure, pair) for name, pair in CIFAR.items()},
    "families": families,
    **{f"compiled-{name}": partial(compiled, pair) for name, pair in CIFAR.items()},
}
