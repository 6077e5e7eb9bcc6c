"""Trainings so small that hundreds of them fit into a test: three-channel images of four classes, 8 by 8."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from potstill import methods, record
from potstill.cohort import Conditions, train
from potstill.data import Augment, CropFlip, Data
from potstill.display import Display, Silent
from potstill.machine import Machine
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.optim import Cosine, Optimizer
from potstill.run import Run
from potstill.stage import EarlyStopping, Stage
from potstill.teachers import EMA, Ensemble, Given, OwnPast, Peers, Shuffled, Teacher, Untrained
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

CLASSES = 4
STEPS = 6
"""Steps of an epoch: 45 of the 56 training images are learned from, 8 a step, so the last batch holds 5."""

SGD = Optimizer(name="SGD", learning_rate=0.05, options={"momentum": 0.9, "weight_decay": 1e-3})


@dataclass(frozen=True, kw_only=True)
class Hint(Term):
    """A learned 3×3 convolution turns an activation of the student into the teacher's input, 8 by 8."""

    tap: str = "stage1"
    teacher_tap: str = "0:in"

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "for the tests"

    @property
    def student_taps(self) -> tuple[str, ...]:
        return (self.tap,)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        assert teacher is not None
        mapped = nn.Conv2d(student.taps[self.tap].shape[1], teacher.taps[self.teacher_tap].shape[1], 3, padding=1)
        return nn.Sequential(mapped, nn.BatchNorm2d(mapped.out_channels))

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        assert teacher is not None
        assert learned is not None
        return nn.functional.mse_loss(learned(student.taps[self.tap]).float(), teacher.taps[self.teacher_tap].float())


def prototypes() -> np.ndarray:
    """One image per class, (4, 3, 8, 8)."""
    return np.random.default_rng(5).normal(size=(CLASSES, 3, 8, 8)).astype(np.float32)


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy prototypes and their classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    noise = generator.normal(size=(count, 3, 8, 8), scale=2.0)
    return (prototypes()[labels] + noise).astype(np.float32), labels


def data(
    train: int = 56, validation: float = 0.2, augment: Augment | None = None, sharing: Any = "shared", test: int = 20
) -> Data:
    """A set of the above."""
    parts = (*images(train, 1), *images(test, 2))
    return Data.given(parts, name="tiny", validation=validation, augment=augment, sharing=sharing)


def linear_teacher(scale: float = 0.05) -> nn.Module:
    """What knows the prototypes; it is nearly always right."""
    last = nn.Linear(192, CLASSES)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(prototypes().reshape(CLASSES, -1)) * scale)
        last.bias.zero_()
    return nn.Sequential(nn.Flatten(), last)


def teacher(network: nn.Module | None = None, classes: int = CLASSES) -> Given:
    """A teacher that the caller holds."""
    return Given(Network.given(network or linear_teacher(), classes))


def convolutional() -> Network:
    """Convolutions, whose weights lie in memory channels last, and batch norm."""
    return Network("digits_conv", CLASSES, 3, options={"width": 4})


def dropping() -> Network:
    """The same kinds of layers, and dropout."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()]
    return Network.given(nn.Sequential(*layers, nn.Linear(6 * 64, CLASSES)), CLASSES)


def two_stages(optimizer: Optimizer = SGD, tap: str = "stage1") -> tuple[Stage, ...]:
    """Two epochs of a hint and soft targets, then two of labels and soft targets with an early end in sight."""
    first = Stage(
        name="hint", terms=(Hint(tap=tap, weight=0.5), KD(temperature=3, warmup=3)), epochs=2, optimizer=optimizer
    )
    return (
        first,
        Stage(
            terms=(Labels(smoothing=0.1), KD(weight=2)),
            epochs=2,
            optimizer=replace(optimizer, learning_rate=optimizer.learning_rate / 2),
            schedule=Cosine(),
            stop=EarlyStopping(monitor="validation_accuracy", patience=2),
        ),
    )


def run(name: str = "run", *, student: Network | None = None, stages: Sequence[Stage] = (), **fields: Any) -> Run:
    """A run on the above."""
    usual: dict[str, Any] = {"data": data(), "teacher": teacher(), "batch_size": 8, "seed": 7, "precision": "fp32"}
    stages = tuple(stages) or two_stages()
    return Run(name=name, student=student or convolutional(), stages=stages, **{**usual, **fields})


def labels_only(epochs: int = 2, optimizer: Optimizer = SGD, **fields: Any) -> Stage:
    """A stage without a teacher."""
    return Stage(terms=(Labels(),), epochs=epochs, optimizer=optimizer, **fields)


class Lines(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


def conditions(
    runs_dir: Path,
    pause: float = 1e9,
    teacher_at_least: float | None = None,
    store: int = 0,
    outlets: Sequence[Any] = (),
) -> Conditions:
    """Around the cohort: by default no checkpoint is written, nothing that a teacher says, and nobody is told."""
    return Conditions(
        runs_dir=runs_dir,
        store=store,
        checkpoint_seconds=pause,
        teacher_at_least=teacher_at_least,
        environment={"command": "test", "commit": None},
        outlets=outlets,
    )


def train_in(
    runs_dir: Path,
    runs: Sequence[Run],
    pause: float = 1e9,
    compile: bool = False,
    display: Display | None = None,
    store: int = 0,
    outlets: Sequence[Any] = (),
) -> list[Path]:
    """Train a cohort on one thread."""
    precision = "bf16" if runs[0].precision == "bf16" else "fp32"
    machine = Machine(precision=precision, compile=compile)
    around = conditions(runs_dir, pause, store=store, outlets=outlets)
    return train(runs, machine, around, display or Silent())


OPTIMIZERS = {
    "SGD": SGD,
    "Adam": Optimizer(name="Adam", learning_rate=0.01),
    "AdamW": Optimizer(name="AdamW", learning_rate=0.01, options={"weight_decay": 0.05}),
    "Adadelta": Optimizer(name="Adadelta", learning_rate=1.0, options={"rho": 0.8}),
}


def _case(name: str) -> list[Run]:
    """One of the matrix: optimizer, kernel, precision, as in `Adam-fused-bf16`."""
    kind, kernel, precision = name.split("-")
    plain = OPTIMIZERS[kind]
    fused = {} if kind == "Adadelta" else {"fused": kernel == "fused"}
    optimizer = replace(plain, options={**plain.options, **fused})
    # Every other case has the network with dropout.
    drops = (len(kind) + len(kernel)) % 2 == 0
    student, tap = (dropping(), "2") if drops else (convolutional(), "stage1")
    return [run(name, student=student, stages=two_stages(optimizer, tap), precision=precision)]


def unlike() -> list[Run]:
    """A cohort of unlike stages, lengths, networks and optimizers, one of which ends early."""
    stops = EarlyStopping(monitor="validation_loss", min_delta=10.0, patience=1)
    return [
        run("two stages"),
        run("drops", student=dropping(), stages=two_stages(OPTIMIZERS["Adam"], "2")[::-1]),
        run("short", stages=[labels_only(1, OPTIMIZERS["AdamW"])]),
        run("stops", stages=[labels_only(4, stop=stops), labels_only(1, train=("student.fc*",))]),
        run("long", stages=[Stage(terms=(KD(),), epochs=5, optimizer=OPTIMIZERS["Adadelta"])]),
    ]


MATRIX = tuple(
    f"{kind}-{kernel}-{precision}"
    for kind in OPTIMIZERS
    for kernel in (("plain",) if kind == "Adadelta" else ("plain", "fused"))
    for precision in ("fp32", "bf16")
)


def augmented() -> list[Run]:
    """Moving views, so that the teacher answers live."""
    return [run("augmented", data=data(augment=CropFlip(padding=1), sharing="per-seed"))]


def stored() -> list[Run]:
    """Views that all seeds share, of so many images that the teacher is asked about them in three chunks."""
    some = replace(data(train=1300, augment=CropFlip(padding=1)), views=3)
    return [run("stored", data=some, batch_size=130, stages=[Stage(terms=(KD(),), epochs=4, optimizer=SGD)])]


def shown() -> list[Run]:
    """The same with activations: vectors and maps."""
    (plain,) = stored()
    terms = (KD(), methods.RKD(), Hint(teacher_tap="stage1.pre"))
    stages = [Stage(terms=terms, epochs=4, optimizer=SGD)]
    return [replace(plain, name="shown", teacher=Untrained(convolutional()), stages=tuple(stages))]


def _taught(name: str, by: Teacher, *terms: Term, **fields: Any) -> list[Run]:
    """Two stages of two epochs with a teacher of another kind."""
    stages = [Stage(terms=(Labels(), *terms), epochs=2, optimizer=SGD, name=name) for name in ("one", "two")]
    return [run(name, teacher=by, stages=stages, **fields)]


def wider() -> Network:
    """Another architecture, which has the same stages."""
    return Network("digits_conv", CLASSES, 3, options={"width": 6})


TAUGHT: dict[str, Callable[[], list[Run]]] = {
    "average": lambda: _taught(
        "average", EMA(decay=0.9), KD(), methods.Attention(student=("stage1",), teacher=("stage1",))
    ),
    "past": lambda: _taught("past", OwnPast(), KD(temperature=2)),
    "peers": lambda: _taught("peers", Peers((convolutional(), wider())), KD(temperature=1), SIMILAR),
    "in turn": lambda: _taught("in turn", Peers((convolutional(),), "in turn"), KD(temperature=1), LEARNED),
    "ensemble": lambda: _taught("ensemble", Ensemble((teacher(), Untrained(convolutional()))), KD(), MEMBER),
    "shuffled": lambda: _taught("shuffled", Shuffled(teacher()), KD()),
    "views": lambda: _taught("views", teacher(), methods.MLKD(), data=PAIRED),
}
"""Teachers that are no single given network, and batches of pairs."""

SIMILAR = methods.Similarity(student=("stage2",), teacher=("stage2",), weight=10)
LEARNED = methods.Hint(student=("stage1",), teacher=("stage1",), weight=1)
MEMBER = methods.Hint(student=("stage2",), teacher=("1/stage1",), weight=1)
PAIRED = replace(data(augment=CropFlip(padding=1)), companion="view")

CASES: dict[str, Callable[[], list[Run]]] = {
    **{name: (lambda name=name: _case(name)) for name in MATRIX},
    "unlike": unlike,
    "augmented": augmented,
    "stored": stored,
    "shown": shown,
    **TAUGHT,
}


def told(folder: Path) -> dict[str, Any]:
    """All that a finished run left that must not depend on kills or company: bytes, and numbers but the seconds."""
    found = record.Record(folder)
    assert found.result is not None
    # A kill right after the result was written leaves a checkpoint that nobody reads.
    names = ("student.safetensors", "best.safetensors", "predictions.safetensors")
    weights = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    lines = [{key: value for key, value in line.items() if key not in ("seconds", "time")} for line in found.metrics]
    result = {key: value for key, value in found.result.items() if key != "seconds"}
    return {"weights": weights, "metrics": lines, "result": result, "resumed": found.environment["resumed"]}
