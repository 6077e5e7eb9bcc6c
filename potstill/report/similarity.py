"""How alike the layers of student and teacher are: CKA before and after training, as `potstill analyze` found it."""

from collections.abc import Sequence

import numpy as np

from potstill.report.attached import Similarity
from potstill.report.matrix import Cells, Numbers, drawn
from potstill.report.plate import Panel, Plate
from potstill.report.words import bare

Found = Sequence[tuple[str, Sequence[Similarity]]]
"""Arms by name, with what was found for each of their runs."""


def plate(name: str, found: Found) -> Plate | None:
    """Means over seeds: what the students began with, once for all of whom it is the same, and what each became."""
    kept = [(arm, _alike(runs)) for arm, runs in found if runs]
    if not kept:
        return None
    panels: list[Panel] = []
    beginnings: list[tuple[list[str], Similarity, Numbers]] = []
    for arm, runs in kept:
        before = _mean([run.before for run in runs])
        same = next((names for names, run, table in beginnings if _same(run, table, runs[0], before)), None)
        if same is None:
            beginnings.append(([arm], runs[0], before))
        else:
            same.append(arm)
    for place, (arms, run, table) in enumerate(beginnings):
        heading = "before training" if len(beginnings) == 1 else f"before training: {', '.join(arms)}"
        panels.append(_panel(f"{name}-cka-before-{place}", heading, run, table))
    for place, (arm, runs) in enumerate(kept):
        panels.append(_panel(f"{name}-cka-{place}", arm, runs[0], _mean([run.after for run in runs])))
    images = kept[0][1][0].images
    caption = (
        f"Linear CKA (Kornblith et al. 2019) of each layer of the student (row) with each of the teacher (column) on "
        f"{images} test images, with the unbiased estimator of HSIC; 1: the same up to rotation and scale, "
        "0: unrelated. Means over seeds."
    )
    return Plate("Layers of student and teacher", caption, tuple(panels))


def _alike(runs: Sequence[Similarity]) -> list[Similarity]:
    """Those with the layers of the first: a mean over others would mean nothing."""
    return [run for run in runs if (run.student, run.teacher) == (runs[0].student, runs[0].teacher)]


def _same(run: Similarity, table: Numbers, other: Similarity, theirs: Numbers) -> bool:
    alike = (run.student, run.teacher) == (other.student, other.teacher)
    return alike and np.array_equal(table, theirs, equal_nan=True)


def _mean(tables: Sequence[Numbers]) -> Numbers:
    return np.mean(tables, axis=0)


def _panel(name: str, heading: str, run: Similarity, table: Numbers) -> Panel:
    texts = [["" if np.isnan(value) else bare(value, 2).replace("-", "−") for value in line] for line in table]
    tint = np.clip(np.nan_to_num(table), 0, 1)
    cells = Cells(tint, texts, run.student, run.teacher, ("student", "teacher"))
    told = "; ".join(
        f"{student}: "
        + ", ".join(f"{teacher} {text or 'unknown'}" for teacher, text in zip(run.teacher, line, strict=True))
        for student, line in zip(run.student, texts, strict=True)
    )
    return drawn(name, heading, cells, f"Similarity of layers, {heading}", f"Student to teacher. {told}.")
