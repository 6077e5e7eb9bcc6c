"""Stores filled before anything is trained with them."""

from collections.abc import Iterable, Sequence

from potstill.codec import digest, encode
from potstill.cohort import Conditions, set_up
from potstill.data import Resident
from potstill.display import Display
from potstill.execution import Failure, check, execute, machine_for
from potstill.machine import Choices, Machine
from potstill.record import make_folder
from potstill.run import Run
from potstill.sweep import needed_by
from potstill.teachers.gate import gate
from potstill.teachers.source import Live


def fill(
    runs: Iterable[Run], choices: Choices, conditions: Conditions, display: Display, jobs: int | None = None
) -> list[Failure]:
    """Compute what the outside teachers of these runs will be asked for, and store it; no student is trained.

    Teachers that are not trained yet are trained first.

    Args:
        runs: The students' runs, finished or not.
        choices: What the user asks of the machine.
        conditions: Where runs and stores are.
        display: What shows how far it is.
        jobs: Processes side by side, for training teachers.

    Returns:
        The teachers that could not be trained.

    Raises:
        UserError: something about the runs does not fit; a teacher is refused.
    """
    runs = [run for run in runs if run.teacher is not None and run.teacher.outside]
    check(runs, choices, conditions.runs_dir)
    make_folder(conditions.runs_dir)
    failures = execute([first for run in runs for first in needed_by(run)], choices, conditions, display, jobs)
    if failures:
        return failures
    alike: dict[tuple[str, str, Machine, int], list[Run]] = {}
    for run in runs:
        assert run.teacher is not None
        seed = run.seed if run.data.sharing == "per-seed" else 0
        machine = machine_for(run, choices, conditions.runs_dir)
        alike.setdefault((digest(encode(run.data)), run.teacher.identity(), machine, seed), []).append(run)
    for (_, _, machine, _), members in alike.items():
        _fill(members, machine, conditions, display)
    return []


def _fill(runs: Sequence[Run], machine: Machine, conditions: Conditions, display: Display) -> None:
    """What runs ask of the teacher, the data and the walk that they share."""
    epochs = max((run.epochs for run in runs if _asks(run)), default=0)
    machine.activate()
    resident, draw, source = set_up(runs[0], max(epochs, 1), machine, conditions, display)
    assert source is not None
    for line in gate(source, resident, conditions.teacher_at_least).lines:
        display.line(line)
    taps = dict.fromkeys(
        tap for run in runs for stage in run.stages for term in stage.terms for tap in term.teacher_taps
    )
    for live, own in source.networks(tuple(taps)):
        _ask(live, own, resident, draw.turns(epochs - 1)[-1] + 1 if epochs else 0, display)


def _ask(live: Live, taps: Sequence[str], resident: Resident, turns: int, display: Display) -> None:
    live.prepare(resident.test, 0)
    if resident.validation is not None:
        live.prepare(resident.validation, 0, taps)
    if not live.turns_are_named and turns:
        display.line("The views of the training images have no end, so none of them is stored; --views V limits them.")
        return
    assert live.store is not None
    name = f"store {live.store.folder.name}"
    shown = min(turns, live.views)
    display.begin(name, shown)
    for turn in range(shown):
        live.prepare(resident.train, turn, taps)
        display.at(name, turn + 1)
        if not live.keeps(resident.train):
            break
    display.end(name)


def _asks(run: Run) -> bool:
    return any(term.needs_teacher for stage in run.stages for term in stage.terms)
