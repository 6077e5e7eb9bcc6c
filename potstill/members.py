"""What terms for several read: the trace of each of those who speak as one."""

from potstill.errors import UserError
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
