"""Controls: the same objective under a teacher that knows nothing, so that a gain can be told from regularisation."""

from collections.abc import Iterator
from dataclasses import replace

from potstill.run import ResultOf, Run, result_of
from potstill.sweep import Arm, Sweep
from potstill.teacher import Given, Teacher
from potstill.teachers import Shuffled, Uniform, Untrained

OTHER_SEED = 1_000
"""Added to a teacher's seed for the network of the student's kind that teaches in its place."""


def with_controls(sweep: Sweep) -> Sweep:
    """The same sweep with controls behind every arm whose terms look at an outside teacher.

    They are, as far as the arm's terms can do with them: an untrained network, where the teacher is named and not given
    with its weights; the right teacher on other images; equal
    probabilities; and a network of the student's own kind, trained on the labels as the teacher was.
    """
    arms: list[Arm] = []
    for arm in sweep.arms:
        arms.append(arm)
        arms += [Arm(name=f"{arm.name}; {name}", run=run, settings={}) for name, run in _controls(arm.run)]
    return replace(sweep, arms=tuple(arms))


def _controls(run: Run) -> Iterator[tuple[str, Run]]:
    terms = [term for stage in run.stages for term in stage.terms]
    if run.teacher is None or not run.teacher.outside or not any(term.needs_teacher for term in terms):
        return
    tapped = any(term.teacher_taps for term in terms) or run.student.reused is not None

    def taught(label: str, teacher: Teacher) -> Run:
        return replace(run, name=f"{run.name}-{label}", teacher=teacher)

    yield "shuffled teacher", taught("shuffled", Shuffled(run.teacher))
    if any(term.several for term in terms):  # Which take several teachers; the others are one.
        return
    if len(run.teacher.networks) == 1 and not run.teacher.networks[0].knows:
        reading = run.teacher.reading if isinstance(run.teacher, Given | ResultOf) else None
        yield "untrained teacher", taught("untrained", Untrained(run.teacher.networks[0], reading=reading))
    if not tapped:
        yield "uniform teacher", taught("uniform", Uniform())
    if isinstance(run.teacher, ResultOf) and run.student.reused is None:
        above = run.teacher.run
        own = replace(above, name=f"{above.name}-self", student=run.student, seed=above.seed + OTHER_SEED)
        yield "its own kind as teacher", taught("self", result_of(own))
