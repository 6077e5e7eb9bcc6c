"""Distilling from Python: one call for any pair of networks."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from potstill.cohort import Conditions
from potstill.data import Data, classes_of, shape_of
from potstill.display import for_terminal
from potstill.errors import RunFailed, UserError
from potstill.execution import execute
from potstill.live.outlets import chosen
from potstill.machine import Choices, Precision
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.optim import Cosine, Optimizer, Schedule
from potstill.record import Record, folder_of
from potstill.run import Run, fingerprint, result_of
from potstill.stage import Stage
from potstill.store.storage import size_of
from potstill.sweep import provenance
from potstill.teachers import Given, Teacher
from potstill.term import Term


@dataclass(frozen=True)
class Result:
    """What a distillation gave.

    Attributes:
        student: The trained network, on the CPU, in evaluation mode.
        metrics: What `result.json` holds: test_accuracy, test_nll, ece, agreement, kl_to_teacher, parameters, …
        folder: The run folder, for `potstill report`.
    """

    student: nn.Module
    metrics: dict[str, Any]
    folder: Path


def distill(
    student: nn.Module | str | Network,
    teacher: nn.Module | Teacher | Run | None,
    data: Data | str | Sequence[Any],
    *,
    terms: Sequence[Term] | None = None,
    stages: Sequence[Stage] | None = None,
    epochs: int = 30,
    batch_size: int = 64,
    optimizer: str | Optimizer = "SGD",
    learning_rate: float | None = None,
    schedule: Schedule | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "auto",
    runs_dir: str | Path | None = None,
    name: str = "distill",
    teacher_at_least: float | None = None,
    store: str = "10GiB",
    events: bool = True,
    logger: Literal["mlflow", "wandb"] | None = None,
    quiet: bool = False,
) -> Result:
    """Train a student with a teacher's help; called again with the same arguments, it continues or does nothing.

    Args:
        student: A network of yours (a copy of it is trained), or a name that `potstill.models` knows.
        teacher: A trained network of yours; a `Run` whose student shall teach, trained first if need be; or None.
        data: A name ("cifar10"); `(x_train, y_train, x_test, y_test)`; or two torch data sets `(train, test)`.
        terms: The objective of a single stage; soft targets (× 0.9, T 4) and labels (× 0.1) if not said.
        stages: Several stages instead; they carry their own terms, epochs, optimizer and schedule.
        epochs: Length of the single stage.
        batch_size: Images per step.
        optimizer: A name in `torch.optim`, or an `Optimizer`. "SGD" comes with momentum 0.9 and weight decay 5e-4.
        learning_rate: Peak learning rate; 0.05 for SGD and 0.001 for others if not said.
        schedule: Of the learning rate; half a cosine if not said.
        seed: Of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32" or "bf16".
        runs_dir: Where the run folder is made; "runs" if not said.
        name: A label for the run folder.
        teacher_at_least: Accuracy below which the teacher is refused; otherwise it must only beat chance.
        store: Disk space for what teachers say, kept for later runs (see `--store` of the command line); or "off".
        events: Whether TensorBoard event files are written into the run folder.
        logger: Tell MLflow or Weights & Biases too.
        quiet: Print nothing.

    Raises:
        UserError: something does not fit; one sentence says what was given, what was expected, and what to do.
        RunFailed: the training diverged.
    """
    used = _data(data)
    source = _teacher(teacher, used)
    alone = {"terms": terms, "learning_rate": learning_rate, "schedule": schedule}
    for word, value in alone.items():
        if stages is not None and value is not None:
            raise UserError(f"Both {word} and stages were given; stages carry their own, so give one of the two.")
    run = Run(
        name=name,
        student=_network(student, used),
        data=used,
        stages=tuple(stages)
        if stages is not None
        else (_stage(terms, source is not None, epochs, optimizer, learning_rate, schedule),),
        teacher=source,
        batch_size=batch_size,
        seed=seed,
        precision=precision,
    )
    place = Path("runs" if runs_dir is None else runs_dir)
    conditions = Conditions(
        runs_dir=place,
        teacher_at_least=teacher_at_least,
        store=size_of(store),
        environment=provenance("potstill.distill"),
        outlets=chosen(events, logger),
    )
    display = for_terminal(quiet)
    with _undisturbed(device):
        try:
            failures = execute([run], Choices(device=device), conditions, display)
        finally:
            display.close()
        if failures:
            raise RunFailed("; ".join(failure.reason for failure in failures))
        return _result(run, folder_of(place, name, fingerprint(run)))


@contextmanager
def _undisturbed(device: str) -> Generator[None, None, None]:
    """The caller's random numbers, threads and choices of kernels are his again afterwards."""
    threads = torch.get_num_threads()
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kernels = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    devices = [torch.cuda.current_device()] if device in ("auto", "cuda") and torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict, warn_only=warn)
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = kernels


def _result(run: Run, folder: Path) -> Result:
    record = Record(folder)
    assert record.result is not None
    if record.status != "finished":
        raise RunFailed(f"The run in {folder} diverged: {record.result['reason']}")
    return Result(result_of(run).load(folder.parent).eval(), record.result, folder)


def _data(given: object) -> Data:
    if isinstance(given, Data):
        return given
    if not isinstance(given, str | list | tuple):
        raise UserError(
            f"The data is a {type(given).__name__}; expected a name, (x_train, y_train, x_test, y_test), or two data "
            "sets (train, test)."
        )
    return Data(name=given) if isinstance(given, str) else Data.given(cast(Sequence[Any], given))


def _network(given: object, data: Data) -> Network:
    if isinstance(given, Network):
        return given
    channels = shape_of(data)[0]
    if isinstance(given, str):
        return Network(given, classes_of(data), channels)
    if not isinstance(given, nn.Module):
        raise UserError(f"The student is a {type(given).__name__}; expected an nn.Module, or a model's name.")
    return Network.given(given, classes_of(data), channels)


def _teacher(given: object, data: Data) -> Teacher | None:
    if isinstance(given, nn.Module):
        return Given(Network.given(given, classes_of(data), shape_of(data)[0]))
    if isinstance(given, Run):
        return result_of(given)
    if given is not None and not isinstance(given, Teacher):
        raise UserError(
            f"The teacher is a {type(given).__name__}; expected an nn.Module with its weights, a Run, or None."
        )
    return given


def _stage(
    terms: Sequence[Term] | None,
    taught: bool,
    epochs: int,
    optimizer: str | Optimizer,
    learning_rate: float | None,
    schedule: Schedule | None,
) -> Stage:
    if isinstance(optimizer, Optimizer):
        if learning_rate is not None:
            raise UserError("Both an Optimizer and learning_rate were given; the Optimizer carries its own.")
        wanted = optimizer
    else:
        sgd = optimizer == "SGD"
        options: dict[str, bool | int | float] = {"momentum": 0.9, "weight_decay": 5e-4} if sgd else {}
        rate = learning_rate if learning_rate is not None else 0.05 if sgd else 1e-3
        wanted = Optimizer(name=optimizer, learning_rate=rate, options=options)
    usual: tuple[Term, ...] = (KD(weight=0.9), Labels(weight=0.1)) if taught else (Labels(),)
    return Stage(
        terms=usual if terms is None else tuple(terms),
        epochs=epochs,
        optimizer=wanted,
        schedule=Cosine() if schedule is None else schedule,
    )
