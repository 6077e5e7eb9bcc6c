"""The step: what it moves, by how much, what it remembers, and that it waits for nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from potstill import checkpoint, record
from potstill.data import CropFlip, Draw, Resident, load
from potstill.errors import UserError
from potstill.learner import Learner
from potstill.machine import Machine
from potstill.methods import KD, Labels
from potstill.models import Network, aliases, build
from potstill.objective import Objective
from potstill.optim import MultiStep, Optimizer, Schedule, Step, Warmup
from potstill.stage import Stage
from potstill.taps import trace
from potstill.teachers.source import Live
from potstill.types import Batch

OPTIMIZERS = ("SGD", "Adam", "AdamW", "Adadelta", "Adagrad", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop")


def learner(stage: Stage, student: Network | None = None, precision: Any = "fp32") -> Learner:
    """A student at its initial weights, before the first step."""
    machine = Machine(precision=precision)
    torch.manual_seed(1)
    network = machine.place(build(student or tiny.convolutional()))
    objective = Objective(network, nn.ModuleDict(), stage.terms, trace(network, aliases=aliases(network)))
    return Learner(objective, stage, machine, seed=1, steps_per_epoch=tiny.STEPS)


def batches(resident: Resident, count: int) -> list[Batch]:
    """The training split in its own order, 8 at a time, over and over; every sixth batch has 5 images."""
    starts = [8 * (step % tiny.STEPS) for step in range(count)]
    return [resident.batch(resident.train, torch.arange(start, min(start + 8, 45))) for start in starts]


def train(trained: Learner, shown: Iterable[Batch], start: int = 0) -> None:
    for step, batch in enumerate(shown, start):
        trained.step(batch, None, step)


def copies(trained: Learner) -> dict[str, Tensor]:
    """All tensors of the state, bitwise."""
    return {name: tensor.clone() for name, tensor in trained.state()[0].items()}


def weights(trained: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trained.objective.named_parameters()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


class Waits(TorchDispatchMode):
    """Lists the operations that read a value back from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adadelta"])
def test_nothing_in_a_step_waits_for_the_device(name: str, precision: Any):
    data = tiny.data(augment=CropFlip(padding=1))
    resident, machine = load(data), Machine(precision=precision)
    source = Live(tiny.linear_teacher(), resident, machine)
    terms = (Labels(smoothing=0.1), KD(warmup=2))
    stage = Stage(terms=terms, epochs=2, optimizer=tiny.OPTIMIZERS[name], schedule=Step())
    for student in (tiny.convolutional(), tiny.dropping()):
        trained = learner(stage, student, precision)
        with Waits() as waits:
            for step in range(8):
                places = torch.arange(8 * (step % 5), 8 * (step % 5) + 8)
                batch = resident.batch(resident.train, places, places % 18)
                trained.step(batch, source(batch, resident.train), step)
        assert waits.seen == []


def test_a_wait_in_a_step_would_be_seen():
    slow = Optimizer(name="Adam", learning_rate=0.01, options={"fused": False})
    trained = learner(tiny.labels_only(2, slow))
    with Waits() as waits:
        train(trained, batches(load(tiny.data()), 1))
    assert set(waits.seen) == {"aten._local_scalar_dense.default"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_a_file_gives_back_goes_on_bitwise(name: str, precision: Any, tmp_path: Path):
    stage = tiny.labels_only(3, tiny.OPTIMIZERS.get(name, Optimizer(name=name, learning_rate=0.01)))
    shown = batches(load(tiny.data()), 16)
    first = learner(stage, tiny.dropping(), precision)
    train(first, shown[:9])
    tensors, values = first.state()
    checkpoint.write(tmp_path / "state.safetensors", tensors, values)
    kept = checkpoint.read(tmp_path / "state.safetensors")
    assert kept is not None
    second = learner(stage, tiny.dropping(), precision)
    second.load(*kept)
    assert_same(copies(first), copies(second))
    for trained in (first, second):
        train(trained, shown[9:], start=9)
    assert_same(copies(first), copies(second))
    assert first.means() == second.means()
    assert first.state()[1] == second.state()[1]
    assert (second.stage_step, second.epochs_done) == (16, 2)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adadelta"])
def test_loaded_momenta_lie_in_memory_as_their_parameters_do(name: str, tmp_path: Path):
    stage = tiny.labels_only(3, tiny.OPTIMIZERS[name])
    first, second = learner(stage), learner(stage)
    train(first, batches(load(tiny.data()), 2))
    tensors, values = first.state()
    checkpoint.write(tmp_path / "state.safetensors", tensors, values)
    kept = checkpoint.read(tmp_path / "state.safetensors")
    assert kept is not None
    second.load(*kept)
    four = [p for p in second.objective.parameters() if p.ndim == 4 and p.shape[1] > 1]
    assert four
    for parameter in four:
        assert parameter.is_contiguous(memory_format=torch.channels_last)
        slots = [v for v in second.optimizer.state[parameter].values() if v.shape == parameter.shape]
        assert slots
        assert all(slot.stride() == parameter.stride() for slot in slots)


@pytest.mark.parametrize("globs", [("student.stage1*",), ("student.fc.bias", "student.stage?.1.weight"), ("*.weight",)])
def test_only_what_the_globs_name_moves(globs: tuple[str, ...]):
    import fnmatch

    # Weight decay moves a parameter without a gradient too, so this looks for more than gradients.
    trained = learner(tiny.labels_only(2, tiny.SGD, train=globs))
    before = weights(trained)
    train(trained, batches(load(tiny.data()), 3))
    after = weights(trained)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if any(fnmatch.fnmatchcase(name, glob) for glob in globs)}
    assert 0 < len(moved) < len(before)


def test_a_stage_thaws_what_the_one_before_froze(tmp_path: Path):
    only = Optimizer(name="SGD", learning_rate=0.1)
    head = tiny.labels_only(1, only, train=("student.fc*",))
    folders = tiny.train_in(
        tmp_path,
        [tiny.run("head", stages=[head]), tiny.run("then all", stages=[head, tiny.labels_only(1, only)])],
    )
    first, second = (checkpoint.read_weights(folder / "student.safetensors") for folder in folders)
    assert not torch.equal(first["stage1.0.weight"], second["stage1.0.weight"])
    assert not torch.equal(first["fc.weight"], second["fc.weight"])


def test_globs_that_name_nothing_are_refused():
    with pytest.raises(UserError) as told:
        learner(tiny.labels_only(1, train=("student.fc*", "student.fd*")))
    assert (
        str(told.value)
        == "no parameters match 'student.fd*': did you mean 'student.fc' or 'student.stage3' or 'student.stage2'?"
    )


def test_a_term_warms_up_epoch_by_epoch(tmp_path: Path):
    terms = (Labels(), KD(weight=2, warmup=3))
    stage = Stage(terms=terms, epochs=5, optimizer=tiny.SGD)
    (folder,) = tiny.train_in(tmp_path, [tiny.run(stages=[stage, replace(stage, epochs=1)])])
    shares = [1 / 3, 2 / 3, 1, 1, 1, 1 / 3]
    lines = record.read_lines(folder / "metrics.jsonl")
    assert len(lines) == len(shares)
    for line, share in zip(lines, shares, strict=True):
        parts = line["train"]["terms"]
        assert line["train"]["loss"] == pytest.approx(parts["labels"] + 2 * share * parts["kd"], rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Step(every=1, gamma=0.1), [1.0] * 6 + [0.1] * 6),
        (MultiStep(milestones=(0.5, 1.5), gamma=0.5), [1.0] * 3 + [0.5] * 6 + [0.25] * 3),
        (Warmup(then=Step(every=1, gamma=0.1), epochs=0.5), [0, 1 / 3, 2 / 3, 1, 1, 1] + [0.1] * 6),
    ],
)
def test_the_schedules_rate_is_the_one_that_is_taken(schedule: Schedule, factors: Sequence[float]):
    plain = Optimizer(name="SGD", learning_rate=0.2)
    trained = learner(tiny.labels_only(2, plain, schedule=schedule))
    for step, (batch, factor) in enumerate(zip(batches(load(tiny.data()), 12), factors, strict=True)):
        before, gradients = weights(trained), dict[str, Tensor]()
        for name, parameter in trained.objective.named_parameters():
            parameter.register_hook(partial(gradients.__setitem__, name))
        trained.step(batch, None, step)
        assert trained.learning_rate == pytest.approx(0.2 * factor)
        for name, parameter in trained.objective.named_parameters():
            assert parameter.grad is None  # It takes no memory while others step.
            torch.testing.assert_close(parameter.detach(), before[name] - 0.2 * factor * gradients[name])


def test_means_are_over_images_not_over_batches():
    trained = learner(tiny.labels_only(1, Optimizer(name="SGD", learning_rate=1e-12)), tiny.dropping())
    trained.objective.student[3] = nn.Identity()  # pyright: ignore[reportIndexIssue]
    shown = batches(load(tiny.data()), tiny.STEPS)
    train(trained, shown)
    logits = torch.cat([trained.objective.train()(batch, None, trained._progress(0))[1] for batch in shown])
    labels = torch.cat([batch.labels for batch in shown])
    means = trained.means()
    assert means["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert means["terms"] == {"labels": means["loss"]}
    assert means["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    trained.begin_epoch()
    assert trained.means() == {"loss": 0.0, "accuracy": 0.0, "terms": {"labels": 0.0}}


def test_judging_changes_nothing():
    trained = learner(tiny.labels_only(2, tiny.OPTIMIZERS["Adam"]), tiny.dropping())
    shown = batches(load(tiny.data()), 4)
    train(trained, shown)
    before, values = copies(trained), trained.state()[1]
    losses, logits = trained.judge(shown[0], None, 4)
    again, _ = trained.judge(shown[0], None, 5)
    assert logits.dtype == torch.float32
    assert torch.equal(losses["loss"], again["loss"])  # No dropout.
    assert_same(before, copies(trained))
    assert trained.state()[1] == values


def test_dropout_is_a_function_of_seed_and_step():
    stage = tiny.labels_only(2)
    (batch,) = batches(load(tiny.data()), 1)
    told: dict[int, list[Tensor]] = {}
    for step in (3, 4, 3):
        trained = learner(stage, tiny.dropping())
        torch.rand(step)  # What was drawn before does not matter.
        trained.step(batch, None, step)
        told.setdefault(step, []).append(trained.state()[0]["sums"].clone())
    assert torch.equal(*told[3])
    assert not torch.equal(told[3][0], told[4][0])


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(16, 8, 2), (17, 8, 2), (18, 8, 3), (5, 8, 1), (9, 2, 4)])
def test_a_last_batch_of_one_image_is_dropped(count: int, batch_size: int, steps: int):
    data = tiny.data(train=count, validation=0)
    assert Draw(load(data), data, 0, batch_size).steps == steps


def test_a_training_with_a_last_batch_of_one_image_runs(tmp_path: Path):
    data = tiny.data(train=17, validation=0)
    (folder,) = tiny.train_in(tmp_path, [tiny.run(data=data, stages=[tiny.labels_only(3)])])
    found = record.Record(folder)
    assert [line["step"] for line in found.metrics] == [2, 4, 6]
    assert found.status == "finished"
