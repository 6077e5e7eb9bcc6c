"""What tunings found, as JSON beside the runs, for the report: `<recipe>.tune.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from potstill import __version__, record
from potstill.tune.marks import alone
from potstill.tune.question import Question
from potstill.tune.ranges import Range, Span
from potstill.tune.study import Study

STATUS = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "under way",
    TrialState.WAITING: "under way",
}


def write(
    path: Path, question: Question, study: Study, told: Mapping[str, Any], importances: Mapping[str, float]
) -> None:
    """Put what a study found into a file, beside what other studies found.

    Args:
        path: The file.
        question: What was asked.
        study: Its trials.
        told: What else stands there: title, command, pruner, and the command that goes on from here.
        importances: Of what was turned; without any, those that stand there stay.
    """
    found = {**describe(question, study), **told}
    with alone(study.marks, "writing"):
        before = (record.read_json(path) or {}).get("studies", [])
        others = [one for one in before if one["name"] != question.name]
        mine = [one["importances"] for one in before if one["name"] == question.name]
        found["importances"] = dict(importances) or (mine[0] if mine else {})
        head = {"format": record.FORMAT, "version": __version__, "recipe": question.recipe}
        record.write_json(path, {**head, "studies": [*others, found]})


def describe(question: Question, study: Study) -> dict[str, Any]:
    """A study as JSON."""
    best = study.best()
    return {
        "name": question.name,
        "arm": question.arm,
        "seeds": list(question.seeds),
        "ranges": [_range(one) for one in question.ranges],
        "start": {one.name: question.start[one.name] for one in question.ranges},
        "best": None if best is None else best.number,
        "trials": [_trial(question, trial) for trial in study.trials()],
    }


def _range(one: Range) -> dict[str, Any]:
    if isinstance(one, Span):
        return {"name": one.name, "low": one.low, "high": one.high, "log": one.log}
    return {"name": one.name, "values": list(one.values)}


def _trial(question: Question, trial: FrozenTrial) -> dict[str, Any]:
    diverged = trial.user_attrs.get("diverged", False)
    return {
        "number": trial.number,
        "status": "diverged" if diverged else STATUS[trial.state],
        "values": question.values(trial.params),
        "accuracy": trial.value if trial.state == TrialState.COMPLETE else None,
        "epochs": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
        "runs": trial.user_attrs.get("runs", []),
    }
