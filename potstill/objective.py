"""The objective: a student and everything its terms learn, as one module that answers named losses."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from potstill.divergence import teacher_right
from potstill.errors import UserError
from potstill.models import aliases
from potstill.seeds import fold
from potstill.taps import Tracer, trace
from potstill.term import Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


class Objective(nn.Module):
    """Student and learned parts together, so that the optimizer, the checkpoint and data-parallel see all that moves.

    Attributes:
        student: The network that ships.
        learned: What terms learn, by term; it stays here from stage to stage.
        terms: The parts of the objective in the present stage.
    """

    def __init__(self, student: nn.Module, learned: nn.ModuleDict, terms: Sequence[Term], tracer: Tracer):
        super().__init__()
        self.student = student
        self.learned = learned
        self.terms = tuple(terms)
        self.taps = tuple(dict.fromkeys(tap for term in terms for tap in term.student_taps))
        self._tracer = tracer

    def forward(self, batch: Batch, teacher: Trace | None, progress: Progress) -> tuple[dict[str, Tensor], Tensor]:
        """The scalar loss of each term before its weight, by name; and the student's logits, (N, K)."""
        student = self._tracer(batch.inputs, self.taps)
        losses = {
            term.key: loss_of(term, batch, student, teacher, self._part(term.key), progress) for term in self.terms
        }
        return losses, student.logits

    def _part(self, key: str) -> nn.Module | None:
        return self.learned[key] if key in self.learned else None  # noqa: SIM401  A ModuleDict has no get.


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
    return Trace(trace.logits[rows], {tap: value[rows] for tap, value in trace.taps.items()})


def dry_run(
    student: nn.Module,
    student_taps: Sequence[str],
    teacher: nn.Module | None,
    teacher_taps: Sequence[str],
    shape: tuple[int, int, int],
    classes: int,
) -> tuple[Trace, Trace | None]:
    """Show two zero images to copies of both networks, eagerly, before anything is trained.

    Args:
        student: The student network; a copy of it looks, so that no counter moves.
        student_taps: All activations that will be asked of it.
        teacher: The teacher network, if there is one.
        teacher_taps: All activations that will be asked of it.
        shape: (C, H, W) of an image.
        classes: K of the data.

    Raises:
        UserError: a network cannot read the images, a tap lies, or the answers are not one logit per class.
    """
    traces: list[Trace | None] = []
    for who, network, taps in (("student", student, student_taps), ("teacher", teacher, teacher_taps)):
        traces.append(None if network is None else _look(who, network, taps, shape))
    first, second = traces
    assert first is not None
    for who, answer in (("student", first), ("teacher", second)):
        if answer is not None and answer.logits.shape != (2, classes):
            size = tuple(answer.logits.shape)
            answered = f"{size[1]} classes" if len(size) == 2 else f"two images with a tensor of shape {size}"
            raise UserError(
                f"The {who} answers {answered} but the data has {classes} classes; "
                f"give a {who} that answers one logit per class, ({classes},) an image."
            )
    return first, second


def _look(who: str, network: nn.Module, taps: Sequence[str], shape: tuple[int, int, int]) -> Trace:
    copy = trace(deepcopy(network).eval(), aliases=aliases(network))
    copy.check(taps)
    parameter = next(network.parameters(), None)
    zeros = torch.zeros(2, *shape, device=None if parameter is None else parameter.device)
    try:
        with torch.no_grad():
            return copy(zeros, taps)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        channels, height, width = shape
        raise UserError(
            f"The {who} cannot read images of {channels} × {height} × {width} (channels × height × width): {reason}"
        ) from None


def learn(
    terms: Sequence[Term], learned: nn.ModuleDict, student: Trace, teacher: Trace | None, plan: Plan, seed: int
) -> None:
    """Add what these terms learn to `learned`; what an earlier stage built under the same name goes on.

    The initialisation depends on the seed and the term's name only, not on what else there is.
    """
    for term in terms:
        if term.key in learned:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(seed, "learned", term.key))
            part = term.build(student, teacher, plan)
        if part is not None:
            learned[term.key] = part


def weighted_sum(losses: Mapping[str, Tensor], terms: Sequence[Term], progress: Progress) -> Tensor:
    """The loss that is minimised: each term's, times its weight in force."""
    total = None
    for term in terms:
        part = term.weight_at(progress) * losses[term.key]
        total = part if total is None else total + part
    assert total is not None
    return total
