"""What is known of a question so far: trials in an Optuna study, on which several processes may work at once."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from potstill.errors import UserError
from potstill.seeds import fold
from potstill.tune.marks import Mark, alone
from potstill.tune.ranges import Choice, Range

STARTUP = 8
"""Trials that are drawn at random before it matters what came out of them."""

UNPRUNED = 4
"""Finished trials before one is given up."""

ENOUGH = 4
"""Finished trials before importances are told."""

FORGOTTEN = timedelta(minutes=1)
"""Age of a trial under way that names no process, after which its process must have died in between."""


def pruner(name: str, epochs: int) -> BasePruner:
    """What gives trials up: "median", "halving", or "none" for nothing.

    Args:
        name: One of these.
        epochs: Length of a run; in its first quarter nothing is given up.
    """
    quarter = max(epochs // 4, 1)
    if name == "median":
        return MedianPruner(n_startup_trials=0, n_warmup_steps=quarter)
    return SuccessiveHalvingPruner(min_resource=quarter, reduction_factor=2) if name == "halving" else NopPruner()


class Study:
    """One question's trials, and this process as one that works on them."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        ranges: tuple[Range, ...],
        start: Mapping[str, Any],
        seed: int,
        pruner: BasePruner,
        marks: Path,
    ):
        """Open a study, or begin it.

        Args:
            url: A database, as SQLAlchemy names it.
            name: What the study is called there.
            ranges: What is turned.
            start: What the first trial takes, if it lies in the ranges.
            seed: Of what is drawn.
            pruner: What gives trials up.
            marks: A folder for the marks of the processes that work here; it is made.

        Raises:
            UserError: the database cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.marks = marks
        self._ranges, self._seed = ranges, seed
        sampler = _Addressed(seed, start if all(one.holds(start[one.name]) for one in ranges) else {})
        with alone(marks, "opening"):  # Two processes at once would both make the tables.
            self._storage, self._study = _opened(url, name, sampler, pruner)
        self._mark = Mark(marks)

    def close(self) -> None:
        """Let go; a trial under way waits for who claims it next."""
        mine = any(trial.user_attrs.get("worker") == self._mark.name for trial in self._under_way())
        self._mark.close(forget=not mine)
        self._storage.remove_session()
        self._storage.engine.dispose()

    def claim(self, wanted: int) -> "Trial | None":
        """The trial to work on next: one whose process has died, else a new one; None where `wanted` are there."""
        asked = self._adopted()
        if asked is None:
            if len(self.trials()) >= wanted:
                return None
            asked = self._study.ask()
            asked.set_user_attr("worker", self._mark.name)
            if asked.number not in [trial.number for trial in self.trials()[:wanted]]:
                self._study.tell(asked.number, state=TrialState.FAIL)  # Another process was quicker.
                return None
        return Trial(self._study, asked, self._ranges)

    def trials(self) -> list[FrozenTrial]:
        """All of them in order, but for those that failed."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]

    def best(self) -> FrozenTrial | None:
        """The finished trial of the highest value, of equal ones the first."""
        return max(self._finished(), key=lambda trial: (trial.value, -trial.number), default=None)

    def importances(self) -> dict[str, float]:
        """The share of the spread between finished trials that each range explains (fANOVA); empty for too few."""
        finished = self._finished()
        if len(finished) < ENOUGH or len({trial.value for trial in finished}) == 1:
            return {}
        return get_param_importances(self._study, evaluator=FanovaImportanceEvaluator(seed=self._seed % 2**32))

    def _finished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]

    def _under_way(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state == TrialState.RUNNING]

    def _adopted(self) -> optuna.Trial | None:
        """A trial whose process has died, which is this one's from now on."""
        for trial in self._under_way():
            name = trial.user_attrs.get("worker")
            if name is None:
                if trial.datetime_start and datetime.now() - trial.datetime_start > FORGOTTEN:
                    return self._taken(trial.number)
            elif name != self._mark.name:
                with self._mark.inherited(name) as dead:
                    if dead and self._study.get_trials()[trial.number].user_attrs["worker"] == name:
                        return self._taken(trial.number)
        return None

    def _taken(self, number: int) -> optuna.Trial:
        study = self._storage.get_study_id_from_name(self._study.study_name)
        trial = optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study, number))
        trial.set_user_attr("worker", self._mark.name)
        return trial


class Trial:
    """One trial under way.

    Attributes:
        number: Counted from 0.
        drawn: What was drawn for every range.
        told: The steps of which it was told how good they were.
    """

    def __init__(self, study: optuna.Study, asked: optuna.Trial, ranges: tuple[Range, ...]):
        self._study = study
        self._asked = asked
        self.number = asked.number
        self.drawn = {one.name: _drawn(asked, one) for one in ranges}
        self.told = set(study.get_trials()[asked.number].intermediate_values)

    def tell(self, step: int, value: float) -> None:
        """How good it is after so many epochs."""
        if step not in self.told:
            self._asked.report(value, step)
            self.told.add(step)

    def note(self, name: str, value: Any) -> None:
        """Remember something of it, as JSON."""
        self._asked.set_user_attr(name, value)

    def promising(self) -> bool:
        """Whether it is worth going on; always, until there are finished trials to compare it with."""
        worse = self._asked.should_prune()  # Asked in any case: the pruner takes note of what later ones meet.
        finished = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return not worse or len(finished) < UNPRUNED

    def finish(self, value: float) -> None:
        """It ended, and was so good."""
        self._study.tell(self.number, value)

    def prune(self) -> None:
        """It was given up, or diverged."""
        self._study.tell(self.number, state=TrialState.PRUNED)

    def fail(self) -> None:
        """It went wrong for another reason than its values; another trial will take its place."""
        self._study.tell(self.number, state=TrialState.FAIL)


def _opened(url: str, name: str, sampler: BaseSampler, pruner: BasePruner) -> tuple[RDBStorage, optuna.Study]:
    """A database, and the study of that name in it."""
    try:
        storage = RDBStorage(url, engine_kwargs=_patience(url))
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            sampler=sampler,
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"The study {url} cannot be opened ({reason}); give --study a database that can be, such as "
            "sqlite:///tune.db."
        ) from None
    return storage, study


def _drawn(asked: optuna.Trial, one: Range) -> Any:
    if isinstance(one, Choice):
        return asked.suggest_categorical(one.name, one.values)
    if one.whole:
        return asked.suggest_int(one.name, int(one.low), int(one.high), log=one.log)
    return asked.suggest_float(one.name, one.low, one.high, log=one.log)


class _Addressed(BaseSampler):
    """TPE whose draws depend on the seed, the trial's number and what is known by then, not on who draws.

    So processes that work on one study do not draw the same, and one that was killed draws what it would have.
    """

    def __init__(self, seed: int, first: Mapping[str, Any]):
        self._seed = seed
        self._first = first  # What trial 0 takes; empty where it is drawn too.

    def _of(self, trial: FrozenTrial) -> TPESampler:
        seed = fold(self._seed, "trial", trial.number) % 2**32
        return TPESampler(seed=seed, n_startup_trials=STARTUP)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        fixed = trial.number == 0 and self._first
        return {} if fixed else self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if trial.number == 0 and self._first:
            return self._first[param_name]
        # Of two flags one must not be drawn as the other.
        tpe = TPESampler(seed=fold(self._seed, "trial", trial.number, param_name) % 2**32, n_startup_trials=STARTUP)
        return tpe.sample_independent(study, trial, param_name, param_distribution)


def _patience(url: str) -> dict[str, Any]:
    """Other processes may write into the same file for a while."""
    return {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
