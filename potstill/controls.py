"""Controls: the same objective under a teacher that knows nothing, so that a gain can be told from regularisation."""

from collections.abc import Iterator
from dataclasses import replace

from potstill.run import ResultOf, Run, result_of
from potstill.sweep import Arm, Sweep
from potstill.teachers import Sampled, Shuffled, Teacher, Uniform, Untrained

OTHER_SEED = 1_000
"""Added to a teacher's seed for the network of the student's kind that teaches in its place."""


def with_controls(sweep: Sweep) -> Sweep:
    """The same sweep with controls behind every arm whose terms look at an outside teacher that is none itself.

    They are, as far as the arm's terms can do with them: the right teacher on other images; an untrained network, where
    the teacher is named and not given with its weights; equal probabilities; and a network of the student's own kind,
    trained on labels as the teacher was, or as the first in the chain of those who taught it, where that training names
    no layers.
    """
    arms: list[Arm] = []
    for arm in sweep.arms:
        arms.append(arm)
        arms += [
            Arm(name=f"{arm.name}; {name}", run=run, after=arm.name, change=name, control=True)
            for name, run in _controls(arm.run)
        ]
    return replace(sweep, arms=tuple(arms))


def _controls(run: Run) -> Iterator[tuple[str, Run]]:
    teacher = run.teacher
    terms = [term for stage in run.stages for term in stage.terms]
    if teacher is None or not teacher.outside or not any(term.needs_teacher for term in terms):
        return
    if isinstance(teacher, Shuffled | Untrained | Uniform):
        return
    tapped = any(term.teacher_taps for term in terms) or run.student.reused is not None
    right = teacher.right if isinstance(teacher, Sampled) else teacher

    def taught(label: str, other: Teacher) -> Run:
        drawn = replace(teacher, right=other) if isinstance(teacher, Sampled) and other.networks else other
        return replace(run, name=f"{run.name}-{label}", teacher=drawn)

    yield "shuffled teacher", replace(run, name=f"{run.name}-shuffled", teacher=Shuffled(teacher))
    if any(term.several for term in terms):  # Which take several teachers; the others are one.
        return
    if right.single and not right.networks[0].knows and right.networks[0].reused is None:
        yield "untrained teacher", taught("untrained", Untrained(right.networks[0], reading=right.readings[0]))
    if not tapped:
        yield "uniform teacher", taught("uniform", Uniform())
    if (own := _own_kind(run, right)) is not None:
        yield "its own kind as teacher", taught("self", own)


def _own_kind(run: Run, teacher: Teacher) -> ResultOf | None:
    """A network of the student's kind that learned as the teacher did, or whoever taught it, but from labels alone.

    It sees the student's data where a teacher reads it in a way of its own, and so needs no such way.
    """
    links: list[ResultOf] = []
    above: Teacher | None = teacher
    while isinstance(above, ResultOf):
        links.append(above)
        above = above.run.teacher
    if not links or above is not None or run.student.reused is not None:
        return None
    first = links[-1].run
    if any(stage.train != ("*",) or any(term.student_taps for term in stage.terms) for stage in first.stages):
        return None  # They name layers, which another architecture need not have.
    data = run.data if any(link.reading is not None for link in links) else first.data
    return result_of(
        replace(first, name=f"{first.name}-self", student=run.student, data=data, seed=first.seed + OTHER_SEED)
    )
