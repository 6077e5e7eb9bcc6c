"""What a recipe will do, before it does it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from potstill.architecture import of_student, size, untrained
from potstill.codec import encode
from potstill.cohort import is_finished
from potstill.data import shape_of, train_images
from potstill.execution import check, machine_for
from potstill.machine import Choices, Machine
from potstill.memory import divided, need
from potstill.record import folder_of
from potstill.run import Run, fingerprint
from potstill.store.storage import told_size
from potstill.sweep import Sweep, group, in_order

TRIED_STEPS = 5
"""Steps that an estimate of time is taken from."""

_Work = tuple[str, str, int, Machine]
"""What steps of equal length share: the student, its peers, the images, the machine."""


def describe(recipe: str, sweep: Sweep, choices: Choices, runs_dir: Path) -> str:
    """The plan as text: arms, cohorts, sizes, steps, machine, and about how long on this machine.

    Raises:
        UserError: what `execution.check` refuses.
    """
    levels = in_order(member.run for member in sweep.members())
    runs = [run for level in levels for run in level]
    check(runs, choices, runs_dir)
    seeds = f"seed {sweep.seeds[0]}" if len(sweep.seeds) == 1 else f"seeds {sweep.seeds[0]}…{sweep.seeds[-1]}"
    lines = [f"{recipe}: {_count(len(sweep.arms), 'arm')}, {seeds}", ""]
    lines += table(
        ("arm", "student", "parameters", "mult-adds", "epochs", "steps", "terms"),
        [_row(arm.name, arm.run) for arm in (*sweep.teachers, *sweep.arms)],
    )
    lines.append("")
    total = 0.0
    tried: dict[_Work, float] = {}
    for level in levels:
        for cohort in divided(group(level, lambda run: machine_for(run, choices, runs_dir))):
            seed = cohort.runs[0].seed
            due = [run for run in cohort.runs if not is_finished(folder_of(runs_dir, run.name, fingerprint(run)))]
            seconds = sum(_seconds(run, cohort.machine, tried) for run in due)
            total += seconds
            names = ", ".join(run.name for run in cohort.runs[:4]) + (" …" if len(cohort.runs) > 4 else "")
            state = f"about {_time(seconds)}" if due else "finished"
            size_and_seed = f"cohort of {len(cohort.runs)}, seed {seed}"
            taken = told_size(need(cohort))
            lines.append(f"{size_and_seed} ({names}): {state}; {_machine(cohort.machine)}, {taken}")
    lines += [
        "",
        f"{_count(len(runs), 'run')} in {runs_dir}; the students' steps take about {_time(total)} in all, "
        "if nothing runs side by side.",
    ]
    return "\n".join(lines)


def _row(name: str, run: Run) -> tuple[str, ...]:
    found = size(run)
    terms = " → ".join(" + ".join(f"{t.weight:g} {t.key}" for t in stage.terms) for stage in run.stages)
    epochs = " + ".join(str(stage.epochs) for stage in run.stages)
    steps = f"{_steps(run):,}"
    return name, run.student.name, f"{found['parameters']:,}", f"{found['mult_adds']:,}", epochs, steps, terms


def _steps(run: Run) -> int:
    whole, rest = divmod(train_images(run.data), run.batch_size)
    return run.epochs * (whole + (rest > 1))


def _seconds(run: Run, machine: Machine, tried: dict[_Work, float]) -> float:
    """An estimate from a few steps on zeros; passes of outside teachers and evaluation are not in it."""
    key = (of_student(run), json.dumps([encode(peer) for peer in run.peers]), run.images_per_step, machine)
    if key not in tried:
        tried[key] = _step(run, machine)
    return tried[key] * _steps(run)


def _step(run: Run, machine: Machine) -> float:
    """Seconds of one step of the student and its peers, without what they learn from one another."""
    machine.activate()
    networks = [machine.place(network).train() for network in (untrained(run), *run.build_peers())]
    inputs = torch.zeros(-(-run.images_per_step // machine.devices), *shape_of(run.data), device=machine.device)
    started = 0.0
    for step in range(TRIED_STEPS + 1):
        if step == 1:  # The first one warms up.
            started = time.perf_counter()
        for network in networks:
            with machine.autocast():
                network(inputs).float().sum().backward()
    return (time.perf_counter() - started) / TRIED_STEPS


def _machine(machine: Machine) -> str:
    compiled = ", compiled" if machine.compile else ""
    device = f"{machine.devices} × {machine.device}" if machine.devices > 1 else machine.device
    return f"{device}, {machine.precision}, {machine.threads} thread{'s' * (machine.threads > 1)}{compiled}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines whose cells stand below one another."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
