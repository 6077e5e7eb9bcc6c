"""Terms for several teachers: the trace of each, and divergences averaged over them by weights."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise
from potstill.term import Term, expect_teacher
from potstill.types import Trace


def expect_members(term: Term, teacher: Trace | None) -> tuple[Trace, ...]:
    """The members' traces, for terms that cannot do without.

    Raises:
        UserError: there is no teacher, or it speaks for itself alone.
    """
    members = expect_teacher(term, teacher).members
    if not members:
        raise UserError(
            f"The term {term.key!r} reads what each of several networks says, but the run's teacher speaks for itself "
            "alone; give the run teacher=Peers(...), or an Ensemble(...)."
        )
    return members


def voices(term: Term, teacher: Trace | None) -> Float[Tensor, "m n k"]:
    """The logits of each of several teachers, for terms that weigh them themselves.

    Raises:
        UserError: there is no teacher, or it is a single one.
    """
    members = expect_teacher(term, teacher).members
    if len(members) < 2:
        raise UserError(
            f"The term {term.key!r} weighs several teachers, but the run's teacher is a single one; give it an "
            "Ensemble of at least two, or take KD()."
        )
    return torch.stack([member.logits for member in members])


def expect_several(count: int) -> None:
    """Refuses to weigh fewer than two teachers.

    Raises:
        UserError: there are.
    """
    if count < 2:
        raise UserError(f"There is {count} teacher; weights of teachers are for at least 2.")


def divergences(
    student: Float[Tensor, "n k"], teachers: Float[Tensor, "m n k"], temperature: float
) -> Float[Tensor, "m n"]:
    """T² · KL(softmax(teacher/T) ‖ softmax(student/T)) of each teacher for each image; the teachers are detached."""
    log_student = (precise(student) / temperature).log_softmax(1)
    log_teachers = (precise(teachers.detach()) / temperature).log_softmax(2)
    apart = F.kl_div(log_student.expand_as(log_teachers), log_teachers, reduction="none", log_target=True)
    return apart.sum(2) * temperature**2


def weighted_kd_loss(
    student: Float[Tensor, "n k"],
    teachers: Float[Tensor, "m n k"],
    weights: Float[Tensor, "m n"] | Float[Tensor, " m"],
    *,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    """Σ_m w_m · T² · KL(softmax(teacher_m/T) ‖ softmax(student/T)), mean over the batch.

    Args:
        student: Logits of the student.
        teachers: Logits of each teacher, detached here.
        weights: Of each teacher, for each image or for the whole batch; detached here.
        temperature: T > 0.
    """
    share = precise(weights.detach())
    each = divergences(student, teachers, temperature)
    return (each * (share if share.dim() == 2 else share.unsqueeze(1))).sum(0).mean()
