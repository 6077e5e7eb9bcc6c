"""Student's interval of a mean."""

import statistics
from collections.abc import Sequence


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Where the mean of a normal distribution lies, of which these are some; None for a single value."""
    if len(values) < 2:
        return None
    # SciPy takes a second to import, which a report without it does not wait for.
    from scipy import special

    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(special.stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return mean - half, mean + half
