"""Many runs: arms and seeds, ordered by what they depend on, grouped into cohorts, trained side by side."""

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from potstill import __version__, record
from potstill.codec import digest, encode
from potstill.cohort import is_finished
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.run import Run, fingerprint


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a comparison.

    Attributes:
        name: What the row is called.
        run: The run; its seed is replaced by each of the sweep's.
        published: The test accuracy that was published for it, as a fraction.
        settings: What this arm turned, for sweeps over numbers: {"temperature": 2.0, "alpha": 0.8}.
        after: The arm from which this one differs in one thing: a rung of the report's ablation ladder.
        change: That thing, in a few words: "a hint first".
        control: Whether its teacher is a control in the place of `after`'s: it is held against that arm, in a table of
            its own, and is no part of the comparison.
    """

    name: str
    run: Run
    published: float | None = None
    settings: dict[str, float] = field(default_factory=dict[str, float])
    after: str | None = None
    change: str = ""
    control: bool = False


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A comparison: every arm with every seed, and the teachers behind them, which keep their own seed.

    Attributes:
        arms: The rows.
        seeds: Seeds of every arm; arms with one seed see the same batches, so they are paired.
        teachers: Rows for the teachers, trained first.
        margin: The difference in test accuracy, as a fraction, below which two arms count as equal.
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    teachers: tuple[Arm, ...] = ()
    margin: float = 0.0

    def __post_init__(self) -> None:
        names = [arm.name for arm in (*self.arms, *self.teachers)]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"Two arms of the sweep are called {name!r}; give each a name of its own.")
        if not self.arms or not self.seeds:
            raise UserError("The sweep has no arms or no seeds; give it at least one of each.")
        self._check_ladder()

    def _check_ladder(self) -> None:
        """Every rung stands on another arm, and none, by way of others, on itself."""
        below = {arm.name: arm.after for arm in self.arms}
        for arm in self.arms:
            if bool(arm.change) != (arm.after is not None):
                raise UserError(
                    f"The arm {arm.name!r} names only one of `after` and `change`; give both, the arm that it changes "
                    "and what it changes, or neither."
                )
            place, steps = arm.after, 0
            while place is not None:
                if place not in below or steps == len(below):
                    what = f"the arm {place!r}, which there is not" if place not in below else "itself in the end"
                    raise UserError(f"The arm {arm.name!r} comes after {what}; name another arm of the sweep.")
                place, steps = below[place], steps + 1
            if arm.control and arm.after is None:
                raise UserError(f"The arm {arm.name!r} is a control; say with `after` and `change` of which arm.")

    def each(self, change: Callable[[Run], Run]) -> "Sweep":
        """The same sweep with every student's run changed; teachers stay as they are."""
        return replace(self, arms=tuple(replace(arm, run=change(arm.run)) for arm in self.arms))

    def members(self) -> list["Member"]:
        """Every run of the comparison: teachers first, then arm by arm, seed by seed."""
        teachers = [Member(arm, "teacher", arm.run) for arm in self.teachers]
        students = [
            Member(arm, "control" if arm.control else "student", replace(arm.run, seed=seed))
            for arm in self.arms
            for seed in self.seeds
        ]
        return teachers + students


@dataclass(frozen=True)
class Member:
    """One run of a sweep, and the row it belongs to."""

    arm: Arm
    role: str
    run: Run


@dataclass(frozen=True)
class Group:
    """Runs that train in lockstep: they share seed, data, teacher, batch size and machine."""

    runs: tuple[Run, ...]
    machine: Machine


def as_sweep(given: object) -> Sweep:
    """What a recipe returned, as a sweep: it may be a run, runs, or a sweep.

    Raises:
        UserError: it is something else.
    """
    if isinstance(given, Sweep):
        return given
    several = isinstance(given, list | tuple)
    found: list[object] = list(cast(list[object], given)) if several else [given]
    runs = [run for run in found if isinstance(run, Run)]
    if runs and len(runs) == len(found):
        seeds = dict.fromkeys(run.seed for run in runs)
        if len(seeds) > 1:
            raise UserError(
                f"The recipe returned runs with the seeds {', '.join(map(str, seeds))}; expected one seed for all: "
                "return a Sweep with seeds=(…), which gives every arm each of them."
            )
        return Sweep(arms=tuple(Arm(name=run.name, run=run) for run in runs), seeds=tuple(seeds))
    raise UserError(f"The recipe returned {type(given).__name__}; expected a Run, a list of Runs, or a Sweep.")


def in_order(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs and the runs of their teachers, each once, in levels: a level needs only those before it.

    Raises:
        UserError: a run needs itself.
    """
    levels: list[dict[str, Run]] = []

    def place(run: Run, pupils: tuple[str, ...] = ()) -> int:
        identity = fingerprint(run)
        if identity in pupils:
            raise UserError(
                f"Among those who teach {run.name!r} is {run.name!r} itself; name teachers that can be trained before "
                "it."
            )
        depth = max((place(first, (*pupils, identity)) + 1 for first in needed_by(run)), default=0)
        while len(levels) <= depth:
            levels.append({})
        levels[depth].setdefault(identity, run)
        return depth

    for run in runs:
        place(run)
    return [list(level.values()) for level in levels]


def needed_by(run: Run) -> tuple[Run, ...]:
    """The runs whose students teach in it."""
    return () if run.teacher is None else run.teacher.runs


def group(runs: Iterable[Run], choose: Callable[[Run], Machine]) -> list[Group]:
    """The runs of one level, in cohorts."""
    cohorts: dict[Any, list[Run]] = {}
    for run in runs:
        teacher = None if run.teacher is None else run.teacher.identity()
        key = (run.seed, digest(encode(run.data)), teacher, run.batch_size, choose(run))
        cohorts.setdefault(key, []).append(run)
    return [Group(tuple(members), key[-1]) for key, members in cohorts.items()]


def write_sweep(path: Path, recipe: str, title: str, command: str, sweep: Sweep, runs_dir: Path) -> None:
    """Write which run belongs to which arm, beside the runs."""
    rows = []
    for member in sweep.members():
        identity = fingerprint(member.run)
        row = {
            "arm": member.arm.name,
            "role": member.role,
            "seed": member.run.seed,
            "fingerprint": identity,
            "folder": record.folder_of(runs_dir, member.run.name, identity).name,
            "published": member.arm.published,
            "settings": member.arm.settings,
        }
        rung = {} if member.arm.after is None else {"after": member.arm.after, "change": member.arm.change}
        rows.append(row | rung)
    head = {"format": record.FORMAT, "version": __version__, "recipe": recipe, "title": title, "command": command}
    head |= {"margin": sweep.margin}
    record.write_json(path, {**head, "runs": rows})


def unfinished(runs: Iterable[Run], runs_dir: Path) -> list[Run]:
    """Those of the runs whose folder holds no result."""
    return [run for run in runs if not is_finished(record.folder_of(runs_dir, run.name, fingerprint(run)))]


def diverged(runs: Iterable[Run], runs_dir: Path) -> list[Run]:
    """Those of the runs that ended without a student."""
    return [
        run
        for run in runs
        if record.Record(record.folder_of(runs_dir, run.name, fingerprint(run))).status == "diverged"
    ]


def provenance(command: str) -> dict[str, Any]:
    """What `env.json` says beside the machine: the command, and the commit of the source where it is a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        answer = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        changed = bool(git("status", "--porcelain", "--", str(here)))
    except OSError:
        commit, changed = "", False
    return {"command": command, "commit": commit or None, "uncommitted_changes": changed}
