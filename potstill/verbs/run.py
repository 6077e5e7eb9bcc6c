"""The verb `run`."""

import shlex
from pathlib import Path
from typing import Any

from potstill import recipes
from potstill.errors import RunFailed
from potstill.verbs.command import choices, conditions, number, parse, planned, title, without


def run(words: list[str]) -> int:
    """`potstill run RECIPE`: train it."""
    name, recipe, given, flags = parse("run", words)
    from potstill.display import for_terminal
    from potstill.execution import check, execute
    from potstill.record import make_folder
    from potstill.sweep import unfinished, write_sweep

    sweep = planned(recipe, given, flags)
    wanted, jobs = choices(flags), number("jobs", flags.jobs)
    command = shlex.join(["potstill", "run", *without(["--runs-dir"], words)])
    around = conditions(command, flags)
    runs = [member.run for member in sweep.members()]
    check(runs, wanted, flags.runs_dir, jobs)
    make_folder(flags.runs_dir)
    path = flags.runs_dir / f"{recipes.file_name(recipes.label(name))}.sweep.json"
    write_sweep(path, recipes.label(name), title(recipe, name), command, sweep, flags.runs_dir)
    display = for_terminal(flags.quiet)
    if not unfinished(runs, flags.runs_dir):
        display.line(f"All {len(runs)} runs are finished; delete their folders in {flags.runs_dir} to run again.")
    try:
        failures = execute(runs, wanted, around, display, jobs)
    finally:
        display.close()
    display.line(f"potstill report {path}")
    return _concluded(runs, flags.runs_dir, [failure.reason for failure in failures])


def _concluded(runs: list[Any], runs_dir: Path, reasons: list[str]) -> int:
    """Status 0 where every run has a student."""
    from potstill.sweep import diverged, unfinished

    lost = diverged(runs, runs_dir)
    missing = unfinished(runs, runs_dir)
    if not lost and not missing:
        return 0
    reasons = [*reasons, *(f"{run.name} (seed {run.seed}) diverged" for run in lost)]
    raise RunFailed(f"{len(lost) + len(missing)} of {len(runs)} runs failed: {'; '.join(reasons)}.")
