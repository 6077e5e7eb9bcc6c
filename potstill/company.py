"""Everybody who takes part in one training: the student, its peers, and the teacher that comes about with it."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from potstill import evaluate, ranks
from potstill.data import Resident, Split
from potstill.machine import Machine
from potstill.models import aliases
from potstill.objective import Objective, learn, taught_by
from potstill.run import Run, twins
from potstill.sight import look
from potstill.stage import Stage
from potstill.store.kept import chunks
from potstill.taps import trace
from potstill.teachers.source import Source
from potstill.term import Plan
from potstill.types import Pass, Trace


class Company:
    """The networks of a training on its machine, and how they see.

    Attributes:
        student: The network that the run names.
    """

    def __init__(self, run: Run, resident: Resident, source: Source | None, machine: Machine):
        self._run = run
        self._resident = resident
        self._source = source
        self._machine = machine
        self.student = machine.place(run.build(None if source is None else source.network))
        peers = [machine.place(peer) for peer in run.build_peers()]
        networks = enumerate((self.student, *peers))
        _expect_unlike([self.student, *peers], run)
        self._all = [(network, self._traced(network, place)) for place, network in networks]
        inside = None
        if run.teacher is not None:
            companions = run.data.companion is not None
            inside = run.teacher.accompany(self.student, resident, companions=companions)
        self._inside = inside
        if inside is not None:
            machine.place(inside)

    @property
    def has_peers(self) -> bool:
        """Whether others learn along with the student."""
        return len(self._all) > 1

    def objective(self, stage: Stage, learned: nn.ModuleDict) -> Objective:
        """What a stage minimises; `learned` gains what its terms learn that is not there yet.

        Raises:
            UserError: something about networks, taps and terms does not fit.
        """
        train, run = self._resident.train, self._run
        above = None if self._source is None else self._source.network
        for place, (ours, theirs) in enumerate(self._dry_run(stage)):
            network = self._all[place][0]
            plan = Plan(network, above, run.batch_size, self._resident.classes, train.labels, train.index)
            learn(stage.terms, learned, ours, theirs, plan, run.seed, place)
        self._machine.place(learned)
        (student, its_pass), *peers = self._all
        return Objective(student, learned, stage.terms, its_pass, peers=peers, inside=self._inside)

    def shipping(self) -> int:
        """Whose weights ship: 0 for the student, or the place of a peer of its kind, better on validation images.

        A network of another kind is there to teach: it is not what was asked for, however good. What counts is what its
        weights do in the student's place, for that is what ships.
        """
        validation = self._resident.validation
        if validation is None:
            return 0
        alike = [place for place, (network, _) in enumerate(self._all) if _kind(network) == _kind(self.student)]
        if len(alike) == 1:
            return 0
        found = [evaluate.accuracy(self.predict(validation, self.weights(at)), validation.labels) for at in alike]
        return alike[found.index(max(found))]

    def weights(self, place: int) -> dict[str, Tensor]:
        """Those of the student, or of a peer."""
        return self._all[place][0].state_dict()

    def predict(self, split: Split, weights: Mapping[str, Tensor]) -> Tensor:
        """The float32 logits of the student on a split, (N, K), with these weights."""
        _, its_pass = self._all[0]
        return evaluate.predict(self.student, weights, its_pass, chunks(self._resident, split), self._machine)

    def _traced(self, network: nn.Module, place: int) -> Pass:
        tracer = trace(network, aliases=aliases(network), compile=self._machine.compile)
        return ranks.divided(tracer, place)

    def _dry_run(self, stage: Stage) -> list[tuple[Trace, Trace | None]]:
        """What the student, and each of its peers, shows of two images, and what its teacher does."""
        ours = [tap for term in stage.terms for tap in term.student_taps]
        theirs = [tap for term in stage.terms for tap in term.teacher_taps]
        shape, classes = self._resident.shape, self._resident.classes
        if self.has_peers:
            shown = [
                look(f"peer {place}" if place else "student", network, [*ours, *theirs], shape, classes)
                for place, (network, _) in enumerate(self._all)
            ]
            return [(trace, taught_by(shown, place)) for place, trace in enumerate(shown)]
        student = look("student", self.student, ours, shape, classes)
        if self._inside is not None:
            return [(student, self._inside.look(theirs, shape))]
        return [(student, None if self._source is None else self._source.look(theirs))]


def _kind(network: nn.Module) -> tuple[type[nn.Module], list[tuple[str, torch.Size]]]:
    """Its class, and the names and shapes of what its files hold."""
    return type(network), [(name, value.shape) for name, value in network.state_dict().items()]


def _expect_unlike(networks: Sequence[nn.Module], run: Run) -> None:
    """Refuse peers that begin as one.

    Raises:
        UserError: two of them have the same weights.
    """
    for first, second in combinations(networks, 2):
        if _kind(first) == _kind(second):
            pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
            if all(torch.equal(own, other) for own, other in pairs):
                raise twins(run)
