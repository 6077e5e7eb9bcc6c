"""A finished run, taken from its record to be looked at again: its data, its teacher, its student then and now."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from potstill.checkpoint import read_weights
from potstill.codec import decode
from potstill.data import Data, Resident, content, load
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import Labels
from potstill.models import Network
from potstill.optim import Optimizer
from potstill.record import Record
from potstill.run import Run
from potstill.stage import Stage
from potstill.teachers.source import Source
from potstill.teachers.teacher import Surroundings, Teacher, opened


@dataclass(frozen=True, eq=False)
class Subject:
    """A run as far as it can be built again; its stages are not the recorded ones, for nothing is trained."""

    record: Record
    run: Run

    @property
    def content(self) -> str:
        """Identity of its data."""
        return content(self.run.data)

    @property
    def taught_by(self) -> tuple[Path, str, str]:
        """What tells its teacher at work from others: where the runs are, who teaches, and on which data."""
        return (self.record.folder.parent, str((self.record.result or {}).get("teacher")), self.content)

    def initial(self, source: Source | None) -> nn.Module:
        """The network that shipped, as it began.

        Raises:
            UserError: it was handed over as a module.
        """
        _expect_named(self.run.student, "student")
        peer = self._peer
        return self.run.build_peers()[peer - 1] if peer else self.run.build(None if source is None else source.network)

    def final(self, source: Source | None) -> nn.Module:
        """The network that shipped.

        Raises:
            UserError: its weights are missing or damaged.
        """
        network = self.initial(source)
        network.load_state_dict(read_weights(self.record.folder / "student.safetensors"))
        return network

    @property
    def _peer(self) -> int:
        return int((self.record.result or {}).get("peer") or 0)


def subject(record: Record) -> Subject:
    """A run from its record. What its terms are plays no part, so they may have come from anywhere.

    Raises:
        UserError: its student, data or teacher cannot be read.
    """
    spec: dict[str, Any] = record.run.get("run") or {}
    teacher = spec.get("teacher")
    nothing = Stage(terms=(Labels(),), epochs=1, optimizer=Optimizer())
    run = Run(
        name=str(record.run.get("name")),
        student=decode(Network, spec.get("student")),
        data=decode(Data, spec.get("data")),
        stages=(nothing,),
        teacher=None if teacher is None else decode(Teacher, teacher),
        seed=int(spec.get("seed", 0)),
    )
    return Subject(record, run)


@dataclass
class Bench:
    """Where subjects are looked at; data, and the last teacher, are kept from one to the next."""

    machine: Machine
    _data: dict[str, Resident | UserError] = field(default_factory=dict[str, "Resident | UserError"])
    _teacher: tuple[tuple[Path, str, str], Source | None] | None = None

    def resident(self, what: Subject) -> Resident:
        """Its data.

        Raises:
            UserError: it cannot be had; asked again, the same.
        """
        if what.content not in self._data:
            try:
                self._data[what.content] = load(what.run.data, self.machine.device)
            except UserError as error:
                self._data[what.content] = error
        found = self._data[what.content]
        if isinstance(found, UserError):
            raise found
        return found

    def teacher(self, what: Subject) -> Source | None:
        """Its outside teacher at work; None where it has none.

        Raises:
            UserError: it cannot be had.
        """
        if what.run.teacher is None or not what.run.teacher.outside:
            return None
        if self._teacher is None or self._teacher[0] != what.taught_by:
            for network in what.run.teacher.networks:
                _expect_named(network, "teacher")
            around = Surroundings(what.record.folder.parent, self.resident(what), self.machine, None)
            self._teacher = (what.taught_by, opened(what.run.teacher, around))
        return self._teacher[1]


def _expect_named(network: Network, who: str) -> None:
    """Refuses a network that no name can build."""
    if network.initial is not None:
        raise UserError(
            f"The {who}, a {network.name}, was handed over as a module, of which a record keeps the hash alone; its "
            "layers cannot be compared."
        )
