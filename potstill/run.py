"""A run as plain data, and its identity."""

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from potstill import record
from potstill.checkpoint import read_weights
from potstill.codec import LATER, class_path, digest, encode
from potstill.data import Data, content, shape_of, train_images
from potstill.errors import UserError, expect_all, expect_kind
from potstill.machine import Precision
from potstill.models import Network, build
from potstill.reading import Reading
from potstill.reuse import reuse
from potstill.seeds import fold
from potstill.stage import Stage
from potstill.teachers.source import Source
from potstill.teachers.teacher import HELD, NAMED, Surroundings, Teacher


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: student, teacher, data, stages, seed.

    Attributes:
        name: A label for folders and tables; no part of the identity.
        student: The network that is trained.
        data: What it learns from.
        stages: One after the other.
        teacher: Who teaches; None for learning from labels alone.
        batch_size: Images drawn for a step.
        seed: Of everything random but the views (see `Data.sharing`) and the validation split.
        precision: "auto", "fp32" or "bf16" (see `potstill.machine`).
        deterministic: Whether only deterministic kernels may run, which matters on CUDA.
        fold: Whether convolutions of outside teachers take in the batch norms behind them (see `potstill.folding`).
    """

    name: str
    student: Network
    data: Data
    stages: tuple[Stage, ...]
    teacher: Teacher | None = None
    batch_size: int = 64
    seed: int = 0
    precision: Precision = "auto"
    deterministic: bool = False
    fold: bool = field(default=True, metadata=LATER)

    def __post_init__(self) -> None:
        expect_kind(self.student, Network, f"The student of {self.name!r} is", HELD)
        expect_kind(self.data, Data, f"What {self.name!r} learns from is", "Data, such as Data(name='cifar10')")
        expect_kind(self.teacher, Teacher | None, f"The teacher of {self.name!r} is", NAMED)
        expect_all(self.stages, Stage, f"The stages of {self.name!r} are", "stages")
        if not self.stages:
            raise UserError(f"The run {self.name!r} has no stages; give it at least one.")
        if self.batch_size < 2:
            raise UserError(f"The batch size is {self.batch_size}; expected at least 2 images.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise UserError(f"The precision is {self.precision!r}; expected auto, fp32 or bf16.")
        taught = self.teacher is not None and self.teacher.single
        if self.student.reused is not None and not taught:
            raise UserError(
                f"The student of {self.name!r} takes over its teacher's classifier, but the run has no teacher that is "
                "one trained network; give it one."
            )
        readings = () if self.teacher is None else self.teacher.readings
        mapped = [reading for reading in readings if reading is not None and reading.classes]
        if self.student.reused is not None and mapped:
            raise UserError(
                f"The student of {self.name!r} takes over its teacher's classifier, which names other classes than the "
                "data; give it a teacher that names the same in the same order."
            )
        given = [network.initial for network in (self.student, *self.peers) if network.initial is not None]
        if len(set(given)) < len(given):
            raise twins(self)
        for stage in self.stages:
            if stage.stop is not None and self.data.validation == 0:
                raise UserError(
                    f"Early stopping of {self.name!r} watches the validation split, but there is none; "
                    "give the data validation=0.1, say."
                )
            for term in stage.terms:
                if not term.suits(self.data.companion):
                    raise UserError(
                        f"The term {term.key!r} of {self.name!r} compares images with companions, but the data has "
                        f"companion={self.data.companion!r}; expected companion={term.companion or 'view'!r}."
                    )
                if term.needs_teacher and self.teacher is None:
                    raise UserError(
                        f"The term {term.key!r} of {self.name!r} compares with a teacher, but the run has none; "
                        "give it one, or leave the term out."
                    )
                missing = any(reading.missing for reading in mapped)
                if mapped and term.needs_teacher and not term.suits_classes(missing=missing):
                    lacks = (
                        "lacks some of the data's classes"
                        if term.suits_classes(missing=False)
                        else "names other classes than the data"
                    )
                    raise UserError(
                        f"The term {term.key!r} of {self.name!r} cannot learn from a teacher that {lacks}; leave the "
                        "term out, or give it another teacher."
                    )
                numbers = term.suits_classes(missing=False) and not term.suits_classes(missing=True)
                if self.teacher is not None and self.teacher.certain and term.needs_teacher and numbers:
                    raise UserError(
                        f"The term {term.key!r} of {self.name!r} compares logits as numbers, but its teacher gives the "
                        "label alone for images that it has not met; leave the term out, or give it another teacher."
                    )
                sample = None if self.teacher is None else self.teacher.sample
                if sample is not None and not term.suits_sample(sample.temperature):
                    raise UserError(
                        f"The term {term.key!r} of {self.name!r} would be biased by a teacher that is Sampled; only "
                        f"KD(temperature={sample.temperature:g}) is not, without standardize and only_right: give the "
                        "run the whole teacher, or that term."
                    )

    @property
    def epochs(self) -> int:
        """Length of all stages together, unless one stops early."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def images_per_step(self) -> int:
        """What the student sees in a step: the batch, and with companions one more image for each."""
        return self.batch_size * (1 if self.data.companion is None else 2)

    @property
    def images_shown(self) -> int:
        """What the student sees in all of its training."""
        return self.epochs * train_images(self.data) * self.images_per_step // self.batch_size

    def build(self, teacher: nn.Module | None) -> nn.Module:
        """The student with the weights it begins with.

        Args:
            teacher: The teacher's network, whose classifier the student may take over.

        Raises:
            UserError: the student cannot be built, or cannot take it over.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(self.seed, "student"))
            network = build(self.student)
            if self.student.reused is None:
                return network
            assert teacher is not None
            return reuse(network, teacher, self.student.reused, shape_of(self.data))

    def build_peers(self) -> list[nn.Module]:
        """`peers`, each with weights of its own to begin with."""
        built: list[nn.Module] = []
        for place, network in enumerate(self.peers, start=1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(fold(self.seed, "peer", place))
                built.append(build(network))
        return built

    @property
    def peers(self) -> tuple[Network, ...]:
        """The networks that learn along with the student."""
        return () if self.teacher is None else self.teacher.peers

    def lasting(self, epochs: int) -> "Run":
        """The same run with another total length: stages in proportion, each at least 1; the teacher's stay."""
        if epochs < 1:
            raise UserError(f"--epochs is {epochs}; expected a whole number ≥ 1.")
        whole = self.epochs
        return replace(self, stages=tuple(s.scaled(max(round(s.epochs * epochs / whole), 1)) for s in self.stages))


@dataclass(frozen=True)
class ResultOf(Teacher):
    """The student of another run, trained first if it was not yet, once for all who name it.

    Attributes:
        run: The other run.
        reading: How its student reads images and names classes, where that is not how the data has them.
    """

    run: Run
    reading: Reading | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        expect_kind(self.run, Run, "result_of was given", "a Run, whose student teaches")

    @property
    def single(self) -> bool:
        """It is."""
        return True

    @property
    def networks(self) -> tuple[Network, ...]:
        """The other run's student."""
        return (self.run.student,)

    @property
    def readings(self) -> tuple[Reading | None, ...]:
        """As given."""
        return (self.reading,)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The other run."""
        return (self.run,)

    def identity(self) -> str:
        """The other run's fingerprint."""
        own = fingerprint(self.run)
        return own if self.reading is None else digest({"run": own, "reading": encode(self.reading)})

    def load(self, runs_dir: Path | None) -> nn.Module:
        """The trained network, as it was after its last epoch; as it will begin where no folder is given.

        Raises:
            UserError: the run is not finished, or diverged.
        """
        above = self.run.teacher if self.run.student.reused else None
        if runs_dir is None:
            return self.run.build(None if above is None else above.load(None))
        folder = record.folder_of(runs_dir, self.run.name, fingerprint(self.run))
        result = record.read_json(folder / "result.json")
        if result is None or result["status"] != "finished":
            state = "is not finished" if result is None else "diverged"
            raise UserError(
                f"The teacher's run in {folder} {state}; train it first, or delete the folder to try again."
            )
        network = self.run.build(None if above is None else above.load(runs_dir))
        network.load_state_dict(read_weights(folder / "student.safetensors"))
        return network

    def open(self, around: Surroundings) -> Source:
        """The network at work."""
        return around.live(self.run.name, self.load(around.runs_dir), self.reading)


def result_of(run: Run) -> ResultOf:
    """The student of `run` as a teacher."""
    return ResultOf(run)


def twins(run: Run) -> UserError:
    """The refusal of peers that begin as one."""
    return UserError(
        f"Two peers of {run.name!r} are the same network with the same weights, and would stay so; give each its own, "
        "or name them so that they are drawn."
    )


def fingerprint(run: Run) -> str:
    """The run's identity: 64 hexadecimal digits over everything that decides what it learns.

    In it: student, teacher (by its own fingerprint or weights), data by content, stages (with the source of terms from
    outside the package), batch size, seed, views, requested precision, determinism. Not in it: the name, folders,
    device, threads, compilation, cohort.
    """
    return digest(identity(run))


def identity(run: Run) -> dict[str, Any]:
    """What the fingerprint is taken of."""
    spec = encode(run)
    del spec["name"]
    spec["teacher"] = None if run.teacher is None else run.teacher.identity()
    spec["data"]["content"] = content(run.data)
    own = {type(term) for stage in run.stages for term in stage.terms}
    sources = {class_path(kind): _source(kind) for kind in own if not kind.__module__.startswith("potstill.")}
    return spec | {"sources": sources} if sources else spec


def _source(kind: type) -> str:
    """The text of a class outside the package, so that a term that was edited is another run; empty if it has none."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
