"""Student's interval of a mean."""

import statistics
from collections.abc import Sequence


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Where the mean of a normal distribution lies, of which these are some; None for a single value."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    reach = half(statistics.stdev(values) / len(values) ** 0.5, len(values), level)
    return mean - reach, mean + reach


def half(error: float, n: int, level: float) -> float:
    """How far the interval of n values reaches to either side of their mean, whose standard error is given."""
    # SciPy takes a second to import, which a report without an interval does not wait for.
    from scipy import special

    return float(special.stdtrit(n - 1, (1 + level) / 2)) * error
