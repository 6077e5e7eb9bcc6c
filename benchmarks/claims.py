"""What is claimed of measured ratios, and whether it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.rounds import Row
from potstill.machine import cpu_flags

Medians = Callable[..., Any]


@dataclass(frozen=True)
class Claim:
    """A ratio of medians, and the least that it should be.

    Attributes:
        name: The ratio.
        value: Of the medians.
        interval: 95 % of the ratios that resampling the rounds gives; None of a single round.
        least: What it should reach; None where it is only told.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    least: float | None

    @property
    def verdict(self) -> str:
        if self.least is None:
            return "told only"
        if self.value >= self.least:
            return "holds"
        reaches = self.interval is not None and self.interval[1] >= self.least
        return "within the interval" if reaches else "does not hold"

    def text(self) -> str:
        """One line for a person."""
        least = "" if self.least is None else f" (at least {self.least:.3g})"
        between = "" if self.interval is None else f" [{self.interval[0]:.3f} … {self.interval[1]:.3f}]"
        return f"{self.name}: {self.value:.3f}{between}{least}: {self.verdict}"

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        interval = None if self.interval is None else list(self.interval)
        return {
            "name": self.name,
            "value": self.value,
            "interval": interval,
            "least": self.least,
            "verdict": self.verdict,
        }


def claim(name: str, ratio: Medians, rows: tuple[Row, ...], least: float | None = None) -> Claim:
    """A ratio of the medians of some rows, with an interval from resampling whole rounds.

    Args:
        name: What it says.
        ratio: A function of the rows' medians, in their order; also of arrays of medians.
        rows: Measured in the same rounds.
        least: What it should reach.
    """
    value = float(ratio(*(row.median for row in rows)))
    interval = None
    if len(rows[0].values) > 1:

        def resampled(*samples: npt.NDArray[np.float64], axis: int) -> Any:
            medians: list[Any] = [np.median(sample, axis=axis) for sample in samples]
            return ratio(*medians)

        found = stats.bootstrap(
            [row.values for row in rows], resampled, paired=True, vectorized=True, method="percentile", rng=0
        ).confidence_interval
        interval = float(cast(Any, found).low), float(cast(Any, found).high)
    return Claim(name, value, interval, least)


def of_steps(rows: dict[str, Row], device: str, judged: bool) -> tuple[Claim, ...]:
    """The claims of a table of steps.

    Args:
        rows: By name, as `benchmarks.steps` gives them.
        device: What they were measured on.
        judged: Whether the comparison with the peer-style loop has bounds.
    """
    ceiling, plain, teacher = rows["constant batch"], rows["labels"], rows["teacher alone"]
    live, kept, cohort = rows["kd, teacher live"], rows["kd, answers kept"], rows["cohort of 8"]
    return (
        claim("labels / constant batch", _over, (plain, ceiling), 0.9 if device == "cuda" else 0.95),
        claim("kd kept / labels", _over, (kept, plain), 0.95),
        claim("kd live · (1/labels + 1/teacher)", _added, (live, plain, teacher), 0.9),
        claim("cohort of 8 · (8/labels + 1/teacher)", _cohort, (cohort, plain, teacher), 1 / 1.05),
        *against_peers(rows, device, judged),
    )


def against_peers(rows: dict[str, Row], device: str, judged: bool, how: str = "") -> tuple[Claim, ...]:
    """What soft targets gain over the peer-style loop, where it was measured.

    Args:
        rows: By name.
        device: What they were measured on.
        judged: Whether the gains have bounds.
        how: What the names of the rows of soft targets end with.
    """
    peer = rows.get("peer-style loop")
    if peer is None:
        return ()
    live, kept = rows[f"kd, teacher live{how}"], rows[f"kd, answers kept{how}"]
    bounds = _bounds(device) if judged else (None, None)
    return (
        claim(f"kd live{how} / peer-style loop", _over, (live, peer), bounds[0]),
        claim(f"kd kept{how} / peer-style loop", _over, (kept, peer), bounds[1]),
    )


def _bounds(device: str) -> tuple[float | None, float | None]:
    """What live and kept should reach against a peer-style loop, by what the hardware multiplies."""
    if device != "cpu":
        return (10.0, 10.0) if device == "cuda" else (None, None)
    if "amx_bf16" in cpu_flags():
        return 4.5, 8.0
    return (1.8, 4.5) if "avx512_bf16" in cpu_flags() else (None, None)


def _over(a: Any, b: Any) -> Any:
    return a / b


def _added(live: Any, plain: Any, teacher: Any) -> Any:
    return live * (1 / plain + 1 / teacher)


def _cohort(cohort: Any, plain: Any, teacher: Any) -> Any:
    return cohort * (8 / plain + 1 / teacher)
