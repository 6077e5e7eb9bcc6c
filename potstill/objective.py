"""The objective: a student and everything its terms learn, as one module that answers named losses."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from potstill.divergence import teacher_right
from potstill.gram import laid_out
from potstill.seeds import fold
from potstill.teachers.inside import Inside
from potstill.term import Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Pass, Trace


class Objective(nn.Module):
    """Student and learned parts together, so that the optimizer, the checkpoint and data-parallel see all that moves.

    Attributes:
        student: The network that ships.
        peers: Networks that learn along with it, from the same terms.
        inside: The teacher that comes about with the student, if it is such a one.
        learned: What terms learn, by term, and by term and peer; it stays here from stage to stage.
        terms: The parts of the objective in the present stage.
    """

    def __init__(
        self,
        student: nn.Module,
        learned: nn.ModuleDict,
        terms: Sequence[Term],
        run: Pass,
        *,
        peers: Sequence[tuple[nn.Module, Pass]] = (),
        inside: Inside | None = None,
    ):
        super().__init__()
        self.student = student
        self.peers = nn.ModuleList([peer for peer, _ in peers])
        self.inside = inside
        self.learned = learned
        self.terms = tuple(terms)
        self._passes = (run, *(run for _, run in peers))
        self._teacher_taps = _union(term.teacher_taps for term in terms)
        ours = _union(term.student_taps for term in terms)
        self._taps = _union((ours, self._teacher_taps)) if peers else ours

    def forward(
        self, batch: Batch, teacher: Trace | None, progress: Progress, turn: int | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The scalar loss of each term before its weight, by name; and the student's logits, (N, K).

        Among peers a loss is the sum of every peer's, or that of peer number `turn` alone.
        """
        traces = [_laid_out(run(batch.inputs, self._taps)) for run in self._passes]
        if self.inside is not None:
            teacher = self.inside.answer(batch, self._teacher_taps)
        losses: dict[str, Tensor] = {}
        for place in range(len(traces)) if turn is None else (turn,):
            answer = teacher if len(traces) == 1 else taught_by(traces, place)
            for term in self.terms:
                part = self._part(part_of(term, place))
                loss = loss_of(term, batch, traces[place], answer, part, progress)
                losses[term.key] = losses[term.key] + loss if term.key in losses else loss
        return losses, traces[0].logits

    def advance(self, batch: Batch, logits: Tensor, step: int) -> None:
        """Let the inside teacher go along with the student, after a step."""
        if self.inside is not None:
            self.inside.advance(self.student, batch, logits.detach(), step)

    def statistics(self) -> Iterator[Tensor]:
        """What the student and its peers count of the images that they see, such as batch norm's means."""
        for network in (self.student, *self.peers):
            yield from (buffer for buffer in network.buffers() if buffer.is_floating_point())

    def _part(self, key: str) -> nn.Module | None:
        return self.learned[key] if key in self.learned else None  # noqa: SIM401  A ModuleDict has no get.


def _laid_out(trace: Trace) -> Trace:
    """The same trace; gradients flow back through its activations in their layout, whatever a term does with them."""
    return Trace(trace.logits, {tap: laid_out(value) for tap, value in trace.taps.items()}, trace.members)


def taught_by(traces: Sequence[Trace], place: int) -> Trace:
    """What the others say to one of several peers; no gradient flows into it.

    The logits are the mean of the others', the activations those of the next in the round.
    """
    others = [_still(trace) for trace in (*traces[place + 1 :], *traces[:place])]
    logits = torch.stack([other.logits for other in others]).mean(0)
    return Trace(logits, others[0].taps, tuple(others))


def part_of(term: Term, place: int) -> str:
    """Where what a term learns is found: by its name for the student, by name and place for a peer."""
    return f"{term.key}@{place}" if place else term.key


def _still(trace: Trace) -> Trace:
    return Trace(trace.logits.detach(), {tap: value.detach() for tap, value in trace.taps.items()})


def _union(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tap for group in groups for tap in group))


def loss_of(
    term: Term, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
) -> Tensor:
    """The scalar loss of a term before its weight, over the images that count (see `Term.only_right`)."""
    if not term.only_right:
        return term.loss(batch, student, teacher, learned, progress)
    answer = expect_teacher(term, teacher)
    right = teacher_right(answer.logits, batch.labels).nonzero().squeeze(1)
    if len(right) < 2:
        # The whole loss, so that gradients of zero reach what the term's always reach: an optimizer may fail where a
        # parameter's first one comes late. In evaluation mode, so that nothing it remembers moves.
        if learned is None:
            return 0 * term.loss(batch, student, answer, None, progress)
        mode = learned.training
        nothing = 0 * term.loss(batch, student, answer, learned.eval(), progress)
        learned.train(mode)
        return nothing
    of_right = term.loss(_rows(batch, right), _shown(student, right), _shown(answer, right), learned, progress)
    return of_right * (len(right) / len(batch.labels))


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(*(part[rows] for part in batch))


def _shown(trace: Trace, rows: Tensor) -> Trace:
    taps = {tap: value[rows] for tap, value in trace.taps.items()}
    return Trace(trace.logits[rows], taps, tuple(_shown(member, rows) for member in trace.members))


def learn(
    terms: Sequence[Term],
    learned: nn.ModuleDict,
    student: Trace,
    teacher: Trace | None,
    plan: Plan,
    seed: int,
    place: int = 0,
) -> None:
    """Add what these terms learn to `learned`; what an earlier stage built under the same name goes on.

    The initialisation depends on the seed, the term's name and the place among peers only, not on what else there is.
    """
    for term in terms:
        key = part_of(term, place)
        if key in learned:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(seed, "learned", key))
            part = term.build(student, teacher, plan)
        if part is not None:
            learned[key] = part


def weighted_sum(losses: Mapping[str, Tensor], terms: Sequence[Term], progress: Progress) -> Tensor:
    """The loss that is minimised: each term's, times its weight in force."""
    total = None
    for term in terms:
        part = term.weight_at(progress) * losses[term.key]
        total = part if total is None else total + part
    assert total is not None
    return total
