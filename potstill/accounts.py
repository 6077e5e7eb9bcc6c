"""What networks consist of and what a step of a run costs: the numbers of a result that nobody has to measure."""

from typing import Any

import torch

from potstill.architecture import size, size_of_teacher
from potstill.models import build
from potstill.run import Run
from potstill.teachers.source import Source


def summary(run: Run, source: Source | None) -> dict[str, Any]:
    """The student's layers, and its teacher's where that is one network; `source` is the outside teacher at work."""
    teacher: dict[str, Any] | None = None
    if source is not None and source.network is not None and run.teacher and run.teacher.single:
        teacher = size_of_teacher(run, source)
    return {"student": size(run), "teacher": teacher}


def costs(run: Run, epochs: int, source: Source | None, parameters: int) -> dict[str, Any]:
    """Views, forward and backward passes per step, and the parameters that ship beyond the student as it was named.

    A pass is one of one network over the drawn images; those of a teacher whose answers are remembered are spread over
    the training.

    Args:
        run: The run.
        epochs: How long it lasted.
        source: The outside teacher at work.
        parameters: Of what ships.
    """
    views = run.images_per_step // run.batch_size
    turns = max(epochs, 1) * (2 if run.data.companion == "view" else 1)
    terms = [term for stage in run.stages for term in stage.terms]
    passes, backwards = 1.0, 1
    if source is not None and any(term.needs_teacher for term in terms):
        taps = tuple(dict.fromkeys(tap for term in terms for tap in term.teacher_taps))
        passes += source.passes_per_view(turns, taps, logits=any(term.needs_logits for term in terms))
    elif run.teacher is not None and not run.teacher.outside:
        passes += run.teacher.passes_beside
        backwards += len(run.teacher.peers)
    return {
        "extra_parameters": _extra(run, parameters),
        "views_per_step": views,
        "forwards_per_step": round(views * passes, 3),
        "backwards_per_step": backwards,
    }


def _extra(run: Run, parameters: int) -> int:
    """A projector, and another classifier for its own."""
    if run.student.reused is None:
        return 0
    with torch.random.fork_rng(devices=[]):
        return parameters - sum(parameter.numel() for parameter in build(run.student).parameters())
