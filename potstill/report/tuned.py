"""What `potstill tune` wrote beside the runs, read without torch and without Optuna, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from potstill.errors import UserError
from potstill.record import Json, check_format, read_json

TUNE = ".tune.json"
"""How the name of a tuning's file ends."""

STATUS = ("finished", "pruned", "diverged", "under way")


@dataclass(frozen=True)
class Axis:
    """What was turned: between two numbers, evenly by factors if `log`, or among some `values`."""

    name: str
    values: tuple[Any, ...]
    log: bool


@dataclass(frozen=True)
class Trial:
    """One trial; `epochs` has the validation accuracy after each of its epochs, `accuracy` after the last."""

    number: int
    status: str
    values: Json
    accuracy: float | None
    epochs: tuple[float, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """One study.

    Attributes:
        recipe: The recipe.
        arm: The arm that was tuned.
        seeds: Of every trial.
        axes: What was turned.
        start: What the recipe had by itself.
        trials: In order.
        importances: The share of each axis in the differences between finished trials; empty for too few.
        command: What was asked.
        ready: The command that runs the recipe with the best values; None while no trial is finished.
    """

    recipe: str
    arm: str
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    start: Json
    trials: tuple[Trial, ...]
    importances: dict[str, float]
    command: str
    ready: str | None

    @property
    def finished(self) -> list[Trial]:
        """The trials that have an accuracy, the best first, of equal ones the earlier."""
        found = [trial for trial in self.trials if trial.accuracy is not None]
        return sorted(found, key=lambda trial: (-(trial.accuracy or 0.0), trial.number))

    @property
    def runs(self) -> list[str]:
        """The folders of all trials' runs."""
        return [name for trial in self.trials for name in trial.runs]

    @property
    def first(self) -> Trial | None:
        """The trial that took what the recipe has by itself."""
        return next((t for t in self.trials if t.values == self.start and t.accuracy is not None), None)


def gather(paths: Sequence[Path], sweep: str) -> tuple[dict[Path, list[Tuning]], dict[Path, UserError]]:
    """The studies in every file that paths name, or a folder holds, or beside a sweep, and damaged files.

    Args:
        paths: Files of tunings, sweep files, run folders, or folders of them.
        sweep: How the name of a sweep's file ends.

    Raises:
        UserError: a file that was named does not exist, or is damaged.
    """
    found: dict[Path, list[Tuning]] = {}
    damaged: dict[Path, UserError] = {}
    for path in paths:
        if path.name.endswith(TUNE):
            if not path.exists():
                raise UserError(f"{path} does not exist; name a sweep file, a run folder, or a folder of runs.")
            found[path] = read(path)
            continue
        for file in _beside(path, sweep):
            try:
                found[file] = read(file)
            except UserError as error:
                damaged[file] = error
    return found, damaged


def _beside(path: Path, sweep: str) -> list[Path]:
    """The files of tunings in a folder, or the one beside a sweep."""
    if path.is_dir():
        return sorted(path.glob(f"*{TUNE}"))
    beside = path.with_name(path.name.removesuffix(sweep) + TUNE)
    return [beside] if beside.exists() else []


def read(path: Path) -> list[Tuning]:
    """Every study in a file that has a trial.

    Raises:
        UserError: it is damaged, or a newer version wrote it.
    """
    value = read_json(path)
    if value is None or not isinstance(value.get("format"), int):
        raise UserError(f"{path} is not a readable file of a tuning; run potstill tune again to have it written anew.")
    check_format(value, path)
    try:
        found = [_tuning(str(value["recipe"]), study) for study in cast(list[Json], value["studies"])]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path} is damaged; run potstill tune again to have it written anew.") from None
    return [tuning for tuning in found if tuning.trials]


def _tuning(recipe: str, study: Json) -> Tuning:
    return Tuning(
        recipe=recipe,
        arm=str(study["arm"]),
        seeds=tuple(int(seed) for seed in study["seeds"]),
        axes=tuple(_axis(one) for one in study["ranges"]),
        start=dict(study["start"]),
        trials=tuple(_trial(one, study["ranges"]) for one in study["trials"]),
        importances={str(name): float(share) for name, share in study["importances"].items()},
        command=str(study["command"]),
        ready=None if study["ready"] is None else str(study["ready"]),
    )


def _axis(one: Json) -> Axis:
    if "values" in one:
        return Axis(str(one["name"]), tuple(one["values"]), log=False)
    return Axis(str(one["name"]), (float(one["low"]), float(one["high"])), log=bool(one["log"]))


def _trial(one: Json, ranges: Sequence[Json]) -> Trial:
    accuracy = None if one["accuracy"] is None else float(one["accuracy"])
    values: Json = dict(one["values"])
    status = str(one["status"])
    if status not in STATUS or (accuracy is not None and values.keys() != {str(axis["name"]) for axis in ranges}):
        raise ValueError(status)
    epochs = tuple(float(value) for value in one["epochs"])
    return Trial(int(one["number"]), status, values, accuracy, epochs, tuple(str(name) for name in one["runs"]))
