"""What the networks of runs consist of, before anything is trained."""

import json
from collections.abc import Callable
from typing import Any

from torch import nn

from potstill.codec import encode
from potstill.data import shape_of
from potstill.models import summarize
from potstill.run import ResultOf, Run, result_of
from potstill.teachers import Teacher
from potstill.teachers.source import Source

_sizes: dict[str, dict[str, Any]] = {}


def untrained(run: Run) -> nn.Module:
    """The student of a run as it will ship, on the CPU, with the weights that it begins with.

    Raises:
        UserError: the student cannot be built, or cannot take over its teacher's classifier.
    """
    return result_of(run).load(None)


def of_student(run: Run) -> str:
    """What decides the layers of `untrained`, as a text."""
    return json.dumps([encode(run.student), shape_of(run.data), of_teacher(run.teacher) if run.student.reused else ""])


def of_teacher(teacher: Teacher | None) -> str:
    """What decides the layers of a teacher, as a text: of one that is trained first, not how it is trained."""
    if isinstance(teacher, ResultOf):
        return json.dumps([of_student(teacher.run), encode(teacher)["reading"] if teacher.reading else None])
    return json.dumps(None if teacher is None else encode(teacher))


def size(run: Run) -> dict[str, Any]:
    """`models.summarize` of a run's student as it will ship, taken once for all runs that have it.

    Raises:
        UserError: what `untrained` raises, or the student cannot read the run's images.
    """
    return _once(of_student(run), lambda: untrained(run), shape_of(run.data), run.student.name)


def size_of_teacher(run: Run, source: Source) -> dict[str, Any]:
    """The same of a run's teacher at work, which is one network, for images as it reads them."""
    assert run.teacher is not None
    ((live, _),) = source.networks(())
    shape = shape_of(run.data) if live.reading is None else live.reading.shape(shape_of(run.data))
    network = live.network
    assert network is not None
    return _once(of_teacher(run.teacher), lambda: network, shape, run.teacher.networks[0].name)


def _once(key: str, network: Callable[[], nn.Module], shape: tuple[int, int, int], name: str) -> dict[str, Any]:
    key = f"{key} {shape}"
    if key not in _sizes:
        _sizes[key] = summarize(network(), shape, name)
    return _sizes[key]
