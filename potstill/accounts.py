"""What networks consist of and what a step of a run costs: the numbers of a result that nobody has to measure."""

from typing import Any

import torch
from torch import nn

from potstill.models import build, summarize
from potstill.run import Run
from potstill.source import Source


def summary(run: Run, student: nn.Module, source: Source | None, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The student's layers, and its teacher's where that is one network.

    Args:
        run: The run.
        student: What ships.
        source: The outside teacher at work.
        shape: (C, H, W) of an image.
    """
    named = () if run.teacher is None else run.teacher.networks
    teacher: dict[str, Any] | None = None
    if source is not None and source.network is not None and len(named) == 1:
        teacher = summarize(source.network, shape, named[0].name)
    return {"student": summarize(student, shape, run.student.name), "teacher": teacher}


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
        passes += source.passes_per_view(
            turns, tuple(dict.fromkeys(tap for term in terms for tap in term.teacher_taps))
        )
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
