"""Several tests of one family, decided together so that any wrong rejection among them stays as rare as alpha."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Where the procedure decided one hypothesis of the family.

    Attributes:
        p: The p value of the hypothesis alone.
        adjusted: Its p value over the family: below alpha where, and only where, the hypothesis is rejected.
        alpha: The level of the step that decided it.
    """

    p: float
    adjusted: float
    alpha: float


def holm(values: Sequence[float], alpha: float) -> list[Step]:
    """Holm's step-down procedure: of k p values the least is held against alpha / k, the next against alpha / (k - 1).

    The first that is not below ends it: that one and all greater ones are kept, at the level of that step.

    Sture Holm: A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 6, 1979.

    Args:
        values: The p values of the family.
        alpha: The chance of any wrong rejection, whichever hypotheses are true.
    """
    steps: dict[int, Step] = {}
    adjusted, stopped = 0.0, 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        left = len(values) - rank
        adjusted = max(adjusted, min(1.0, left * values[place]))
        share = stopped or alpha / left
        if values[place] >= share:
            stopped = share
        steps[place] = Step(values[place], adjusted, share)
    return [steps[place] for place in range(len(values))]
