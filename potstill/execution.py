"""Carrying a sweep out: teachers before students, cohort after cohort or side by side in processes of one thread."""

import os
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from potstill import record
from potstill.architecture import size
from potstill.cohort import Conditions, train
from potstill.crew import train_beside
from potstill.data import classes_of
from potstill.display import Display
from potstill.errors import TeacherRefused, UserError
from potstill.machine import LATER, Choices, Machine
from potstill.memory import divided, need, room
from potstill.ranks import SMALLEST
from potstill.rehearsal import rehearse
from potstill.run import Run, fingerprint
from potstill.sweep import Group, diverged, group, in_order, needed_by, unfinished


@dataclass(frozen=True)
class Failure:
    """Runs that were not brought to an end, and why."""

    runs: tuple[Run, ...]
    reason: str


def execute(
    runs: Iterable[Run], choices: Choices, conditions: Conditions, display: Display, jobs: int | None = None
) -> list[Failure]:
    """Train every run that is not finished, and first the teachers that they name.

    Args:
        runs: What is wanted.
        choices: What the user asks of the machine.
        conditions: Where runs are written, and the like.
        display: What shows how far they are.
        jobs: Processes side by side; None takes as many as there are cores, and memory for, where one thread serves a
            cohort.

    Returns:
        What failed; everything that does not hang on it was finished all the same.

    Raises:
        UserError: something that was asked for cannot be.
    """
    runs = list(runs)
    check(runs, choices, conditions.runs_dir, jobs)
    failures: list[Failure] = []
    lost: dict[str, str] = {}
    for level in in_order(runs):
        ready, orphans = _parted(unfinished(level, conditions.runs_dir), lost)
        failures += orphans
        groups = group(ready, lambda run: machine_for(run, choices, conditions.runs_dir))
        parts = divided(groups)
        if len(parts) > len(groups):
            several = "A cohort is" if len(groups) == 1 else f"{len(groups)} cohorts are"
            display.line(f"{several} trained as {len(parts)}, one after another, for the memory that is free.")
        failures += _train_all(parts, conditions, display, jobs)
        lost |= {fingerprint(run): "was not trained" for failure in failures for run in failure.runs}
        lost |= {fingerprint(run): "diverged" for run in diverged(level, conditions.runs_dir)}
    return failures


def check(runs: Iterable[Run], choices: Choices, runs_dir: Path, jobs: int | None = None) -> None:
    """Refuse, before a teacher is trained in vain, what can be seen to be wrong with runs or their teachers' runs.

    Raises:
        UserError: an unknown network, one that answers other classes than the data has, a device that is not here, a
            folder that a newer version wrote, a stage that does not fit the networks, what several devices cannot
            share.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs is {jobs}; expected a whole number ≥ 1.")
    if (choices.devices or 1) > 1 and (jobs or 1) > 1:
        raise UserError(
            f"--devices is {choices.devices} and --jobs {jobs}, but cohorts on several devices are trained one after "
            "another; leave --jobs out."
        )
    all_runs = [run for level in in_order(runs) for run in level]
    for run in all_runs:
        path = _specification(run, runs_dir)
        record.check_format(record.read_json(path) or {}, path)
    due = unfinished(all_runs, runs_dir)
    for run in due:
        classes = classes_of(run.data)
        if run.student.classes != classes:
            raise UserError(
                f"The student of {run.name!r} answers {run.student.classes} classes but {run.data.name!r} has "
                f"{classes}; build it with classes={classes}."
            )
        _check_shared(run, machine_for(run, choices, runs_dir).devices)
    rehearse(run for run in due if not _specification(run, runs_dir).exists())  # What was begun has fitted.


def _check_shared(run: Run, devices: int) -> None:
    """Refuse a run that cannot be divided among so many devices."""
    if devices == 1:
        return
    if _is_live(run):
        raise UserError(
            f"--devices is {devices}, but {run.name!r} holds a network or images of this process, which cannot be "
            "handed to others; name a network as package.module:callable and a data set by its name, or leave "
            "--devices out."
        )
    if run.images_per_step < SMALLEST * devices:
        raise UserError(
            f"--devices is {devices}, but a batch of {run.name!r} has {run.images_per_step} images, and each device "
            f"takes at least {SMALLEST}; ask for fewer devices, or larger batches."
        )


def _specification(run: Run, runs_dir: Path) -> Path:
    return record.folder_of(runs_dir, run.name, fingerprint(run)) / "run.json"


def _parted(due: Sequence[Run], lost: dict[str, str]) -> tuple[list[Run], list[Failure]]:
    """The runs that can begin, and those of whose teachers one has no result, by that teacher."""
    ready: list[Run] = []
    orphans: dict[str, list[Run]] = {}
    names: dict[str, str] = {}
    for run in due:
        missing = [first for first in needed_by(run) if fingerprint(first) in lost]
        if not missing:
            ready.append(run)
            continue
        identity = fingerprint(missing[0])
        names[identity] = missing[0].name
        orphans.setdefault(identity, []).append(run)
    failures = [
        Failure(tuple(pupils), f"{len(pupils)} not begun, for the teacher {names[identity]} {lost[identity]}")
        for identity, pupils in orphans.items()
    ]
    return ready, failures


def machine_for(run: Run, choices: Choices, runs_dir: Path) -> Machine:
    """What a run is trained on: what the user chooses, else what its record says, else what the rules say now."""
    # The rules look at the student with a classifier of its own: the runs on record were given their machines so.
    plain = replace(run, student=replace(run.student, reused=None))
    wanted = choices.resolve(size(plain)["mult_adds"], run.precision, run.deterministic, run.fold, run.images_shown)
    folder = record.folder_of(runs_dir, run.name, fingerprint(run))
    before = record.read_json(folder / "env.json")
    if before is None:
        return wanted
    before = {**LATER, **before}
    if before.get("device") != wanted.device:
        return replace(wanted, fold=bool(before["fold"]))  # Which no user chooses.
    kept = Machine(**{k: v if k in choices.made else before.get(k, v) for k, v in asdict(wanted).items()})
    return kept if wanted.device != "cuda" or kept.devices <= torch.cuda.device_count() else wanted


def _train_all(groups: Sequence[Group], conditions: Conditions, display: Display, jobs: int | None) -> list[Failure]:
    wide = [g for g in groups if g.machine.devices > 1]
    narrow = [g for g in groups if g.machine.devices == 1]
    here = jobs == 1 or len(narrow) == 1 or conditions.go_on is not None
    alone = [g for g in narrow if here or not _can_share(g)]
    beside = [g for g in narrow if g not in alone]
    failures = [failure for g in alone if (failure := _train_here(g, conditions, display))]
    reasons = train_beside(beside, conditions, display, jobs or _abreast(beside)) if beside else []
    reasons += train_beside(wide, conditions, display, 1) if wide else []
    lost = zip([*beside, *wide], reasons, strict=True)
    return failures + [Failure(g.runs, f"{_told(g)}: {reason}") for g, reason in lost if reason is not None]


def _abreast(groups: Sequence[Group]) -> int:
    """How many of these cohorts can train side by side: as many as there are cores, and as go into the memory."""
    return max(min(os.cpu_count() or 1, room("cpu") // max(map(need, groups))), 1)


def _told(group: Group) -> str:
    return f"{', '.join(run.name for run in group.runs)} (seed {group.runs[0].seed})"


def _can_share(group: Group) -> bool:
    """Whether a cohort can train in a process beside others: one thread on the CPU, and nothing live to hand over."""
    on_a_core = group.machine.device == "cpu" and group.machine.threads == 1
    return on_a_core and not any(map(_is_live, group.runs))


def _is_live(run: Run) -> bool:
    """Whether a run holds a network or images that are in this process only."""
    networks, above = ((), ()) if run.teacher is None else (run.teacher.networks, run.teacher.runs)
    held = any(network.module is not None for network in (run.student, *networks))
    return held or run.data.arrays is not None or any(map(_is_live, above))


def _train_here(group: Group, conditions: Conditions, display: Display) -> Failure | None:
    try:
        train(group.runs, group.machine, conditions, display)
    except TeacherRefused as refusal:
        return Failure(group.runs, f"{_told(group)}: {refusal}")
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        return Failure(group.runs, f"{_told(group)}: {type(error).__name__}: {error}")
    return None
