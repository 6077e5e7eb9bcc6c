"""The one exception that is the user's to mend."""

from collections.abc import Iterable
from types import UnionType
from typing import cast


class UserError(Exception):
    """A mistake in what was asked for: one sentence that says what was given, what was expected, and what to do.

    The command line prints the sentence and exits with status 2; in Python it is raised as it is.
    """


class TeacherRefused(UserError):
    """A teacher that another run made is not fit to teach: what hangs on it fails, and nothing else does."""


class RunFailed(Exception):
    """A run that was asked for rightly could not be finished (exit status 1); one sentence says why."""


def expect_kind(given: object, kind: type | UnionType, what: str, instead: str) -> None:
    """Refuse what is of another kind, such as a module where its specification belongs.

    Args:
        given: What was given.
        kind: What it should be.
        what: How the sentence begins: "The student is".
        instead: What was expected.

    Raises:
        UserError: it is of another kind.
    """
    if not isinstance(given, kind):
        told = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise UserError(f"{what} {told}; expected {instead}.")


def expect_all(given: object, kind: type | UnionType, what: str, instead: str) -> None:
    """The same of a tuple, and of each that is in it."""
    expect_kind(given, tuple | list, what, f"a tuple of {instead}")
    for one in cast(Iterable[object], given):
        expect_kind(one, kind, what, instead)
