"""Reliability diagrams: how often a network is right when it is so sure."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from potstill.report.answers import Answers
from potstill.report.matrix import cut
from potstill.report.plate import Panel, Plate
from potstill.report.study import Arm, Study
from potstill.report.style import SMALL, Style

BINS = 15
"""Those of the calibration error in `result.json`: of equal width, open below and closed above."""


@dataclass(frozen=True, eq=False)
class Bins:
    """The images of each bin, and sums over them of confidence and of right answers, (15,) each."""

    images: NDArray[np.float64]
    confidence: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3), as a fraction."""
        return float(np.abs(self.right - self.confidence).sum() / self.images.sum())


def bins(said: Sequence[Answers]) -> Bins:
    """All answers together, binned by their confidence."""
    confidence = np.concatenate([each.confidence for each in said]).astype(np.float64)
    right = np.concatenate([each.right for each in said]).astype(np.float64)
    place = np.clip(np.ceil(confidence * BINS), 1, BINS).astype(np.int64) - 1
    images = np.bincount(place, minlength=BINS).astype(np.float64)
    sure, hits = np.zeros(BINS), np.zeros(BINS)
    np.add.at(sure, place, confidence)
    np.add.at(hits, place, right)
    return Bins(images, sure, hits)


def diagrams(name: str, study: Study) -> Plate:
    """One diagram per arm, the teacher's first."""
    shown = [*([study.teacher] if study.teacher else []), *study.arms]
    panels = tuple(_diagram(f"{name}-reliability-{i}", arm) for i, arm in enumerate(shown))
    caption = (
        "Share of right answers against confidence, all seeds together, in 15 bins; the line is where both are equal. "
        "The area of a dot is its share of the images; below the line a network is surer than it should be (orange). "
        "ECE: expected calibration error, mean over seeds."
    )
    return Plate("Reliability", caption, panels)


def _diagram(name: str, arm: Arm) -> Panel:
    found = bins(arm.answers)
    there = found.images > 0
    confidence, right = found.confidence[there] / found.images[there], found.right[there] / found.images[there]
    share = found.images[there] / found.images.sum()
    error = float(np.mean([bins([each]).error for each in arm.answers]))

    def draw(style: Style) -> Figure:
        with style.drawing(SMALL, 2.25) as (figure, axes):
            axes.plot([0, 100], [0, 100], color=style.ink, lw=0.7, ls=":")
            over = right < confidence
            for wanted, colour in ((~over, style.colours[0]), (over, style.colours[1])):
                x, y = 100 * confidence[wanted], 100 * right[wanted]
                axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color=colour, lw=1.2, alpha=0.6)
                axes.scatter(x, y, s=6 + 90 * share[wanted], color=colour, alpha=0.75, linewidths=0, clip_on=False)
            axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence, %", ylabel="right, %")
            axes.set_xticks(range(0, 101, 25))
            axes.set_yticks(range(0, 101, 25))
            axes.set_title(f"{cut(arm.name, 22)} · ECE {100 * error:.1f} %", loc="left")
        return figure

    told = "; ".join(
        f"sure {100 * c:.0f} %: right {100 * r:.0f} % of {100 * s:.1f} % of the images"
        for c, r, s in zip(confidence, right, share, strict=True)
    )
    title = f"Reliability of {arm.name}, expected calibration error {100 * error:.1f} %"
    return Panel(name, title, told, draw, about=arm.name)
