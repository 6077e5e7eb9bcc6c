"""The one exception that is the user's to mend."""


class UserError(Exception):
    """A mistake in what was asked for: one sentence that says what was given, what was expected, and what to do.

    The command line prints the sentence and exits with status 2; in Python it is raised as it is.
    """


class TeacherRefused(UserError):
    """A teacher that another run made is not fit to teach: what hangs on it fails, and nothing else does."""


class RunFailed(Exception):
    """A run that was asked for rightly could not be finished (exit status 1); one sentence says why."""
