"""One run under way: its stages, its learner, and where it stands."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from potstill import checkpoint, evaluate, ranks
from potstill.accounts import costs, summary
from potstill.company import Company
from potstill.data import Resident
from potstill.evaluate import Judged
from potstill.learner import Learner
from potstill.live.outlets import Kind
from potstill.logbook import Logbook
from potstill.machine import Machine, describe
from potstill.run import Run
from potstill.teachers.gate import Judgement
from potstill.teachers.source import Source
from potstill.types import Batch, Trace


@dataclass
class Standing:
    """Where a run stands between epochs, beside its learner: all of it plain values that a checkpoint carries."""

    step: int = 0
    epoch: int = 0
    stage: int = 0
    seconds: float = 0.0
    metrics_length: int = 0
    watched: float | None = None  # Best value of what early stopping monitors.
    patience_used: int = 0
    best_accuracy: float | None = None  # On the validation split.
    best_epoch: int | None = None


class Training:
    """One run of a cohort, from its first step to its result, continued where a checkpoint left it."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        resident: Resident,
        source: Source | None,
        machine: Machine,
        steps_per_epoch: int,
    ):
        self.run = run
        self.folder = folder
        self.at = Standing()
        self.done = False
        self.validation: Mapping[str, Any] | None = None
        """What the last finished epoch measured on the validation split."""
        self._resident = resident
        self._source = source
        self._machine = machine
        self._best: dict[str, Tensor] = {}
        self._steps_per_epoch = steps_per_epoch
        self._company = Company(run, resident, source, machine)
        self._learned = nn.ModuleDict()
        if len(run.stages) > 1:
            self._rehearse()
        self._enter(0)

    @property
    def learner(self) -> Learner:
        """The present stage."""
        return self._learner

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self._resident.shape

    # What the cohort asks.

    @property
    def needs_teacher(self) -> bool:
        """Whether the present stage looks at the outside teacher."""
        return self._source is not None and any(term.needs_teacher for term in self._learner.stage.terms)

    @property
    def needs_logits(self) -> bool:
        """Whether it looks at the outside teacher's logits."""
        return self._source is not None and any(term.needs_logits for term in self._learner.stage.terms)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The teacher's activations that the present stage looks at."""
        return tuple(tap for term in self._learner.stage.terms for tap in term.teacher_taps)

    def step(self, batch: Batch, teacher: Trace | None, step: int) -> None:
        """Take step number `step` of the cohort; one that this run has had already is left out."""
        if step == self.at.step:
            self._learner.step(batch, teacher, step)
            self.at.step += 1

    def judge(self, judged: Judged, batch: Batch, teacher: Trace | None) -> None:
        """Count one validation batch."""
        losses, logits = self._learner.judge(batch, teacher, self.at.step)
        judged.add(losses, logits, batch.labels)

    def end_epoch(self, judged: Judged | None) -> None:
        """Write the epoch down, then go on to the next epoch, the next stage, or the end."""
        sound = self._learner.finite() and (judged is None or judged.finite())
        sound, validation = ranks.agreed((sound, None if judged is None else judged.means()))
        if not sound:
            return self._diverge(f"a loss was no longer a finite number in epoch {self.at.epoch + 1}")
        self.at.epoch += 1
        self.validation = validation
        line = {
            "epoch": self.at.epoch,
            "stage": self._learner.stage.name,
            "stage_index": self.at.stage,
            "step": self.at.step,
            "learning_rate": self._learner.learning_rate,
            "seconds": round(self.at.seconds, 3),
            "time": round(time.time(), 3),
            "train": self._learner.means(),
            "validation": validation,
        }
        if ranks.leads():
            self.at.metrics_length = self._logbook.line(line)
        self._keep_best(validation)
        stopped = validation is not None and self._patience_is_out(validation)
        self._learner.begin_epoch()
        if stopped or self._learner.epochs_done == self._learner.stage.epochs:
            if self.at.stage + 1 == len(self.run.stages):
                self._finish()
            else:
                self._enter(self.at.stage + 1)

    def save(self) -> None:
        """Write a checkpoint, unless something is no longer a finite number."""
        tensors, values = self._learner.state()
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        if all(value.isfinite().all() for value in tensors.values() if value.is_floating_point()):
            checkpoint.write(
                self.folder / "checkpoint.safetensors", tensors, {"at": self.at.__dict__, "learner": values}
            )

    def leave(self) -> None:
        """Stop here: the folder stays unfinished, and whoever trains the run later goes on from this epoch's end."""
        self.save()
        self.done = True

    # Stages.

    def _rehearse(self) -> None:
        """Enter every stage once, so that what does not fit is told before anything is trained."""
        for place in range(len(self.run.stages)):
            self._enter(place)
        self._learned = nn.ModuleDict()

    def _enter(self, place: int) -> None:
        """Begin stage number `place`; what earlier stages learned stays, by name."""
        stage = self.run.stages[place]
        self._learner = Learner(
            self._company.objective(stage, self._learned),
            stage,
            self._machine,
            seed=self.run.seed,
            steps_per_epoch=self._steps_per_epoch,
            in_turn=self.run.teacher is not None and self.run.teacher.in_turn,
        )
        self.at.stage = place
        self.at.watched, self.at.patience_used = None, 0

    def _patience_is_out(self, validation: Mapping[str, Any]) -> bool:
        stop = self._learner.stage.stop
        if stop is None:
            return False
        value = validation[stop.monitor.removeprefix("validation_")]
        if stop.improved(value, self.at.watched):
            self.at.watched, self.at.patience_used = value, 0
        else:
            self.at.patience_used += 1
        return self.at.patience_used >= stop.patience

    def _keep_best(self, validation: Mapping[str, Any] | None) -> None:
        if validation is not None and (self.at.best_accuracy is None or validation["accuracy"] > self.at.best_accuracy):
            self.at.best_accuracy, self.at.best_epoch = validation["accuracy"], self.at.epoch
            self._best = {name: value.detach().clone() for name, value in self._company.student.state_dict().items()}

    # Beginning and end.

    def open(
        self,
        environment: Mapping[str, Any],
        judgement: Judgement | None,
        outlets: Sequence[Kind],
        say: Callable[[str], None],
    ) -> None:
        """Make the folder, or go on in it from its checkpoint.

        Args:
            environment: What `env.json` shall say beside the machine.
            judgement: What the gate said of the outside teacher, for the result.
            outlets: Where its numbers go beside the folder's record.
            say: Tells a person that one of them failed.
        """
        self._judgement = judgement
        if ranks.leads():
            self._logbook = Logbook(self.folder, self.run)
        self._continue()
        if ranks.leads():
            now = {**describe(self._machine), **environment}
            self._logbook.open(self.at.step, self.at.metrics_length, now, self._summary)
            self._logbook.tell(outlets, self.at.epoch, say)
        if self.at.step != (step := ranks.agreed(self.at.step)):
            raise RuntimeError(f"this process found {self.folder} at step {self.at.step}, the first one at step {step}")

    def _summary(self) -> Mapping[str, Any]:
        return summary(self.run, self._source)

    def _continue(self) -> None:
        loaded = checkpoint.read(self.folder / "checkpoint.safetensors")
        if loaded is not None:
            tensors, values = loaded
            for place in range(1, values["at"]["stage"] + 1):  # Earlier stages' learned parts live on.
                self._enter(place)
            self.at = Standing(**values["at"])
            self._best = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
            self._learner.load({n: t for n, t in tensors.items() if not n.startswith("best.")}, values["learner"])

    def _finish(self) -> None:
        test = self._resident.test
        peer = self._company.shipping()
        weights = self._company.weights(peer)
        logits = self._company.predict(test, weights)
        if not logits.isfinite().all():
            return self._diverge("the logits of the test images were no longer finite numbers after the last epoch")
        teacher = None if self._source is None else self._source.answers(test)
        measured = evaluate.measure(logits, test.labels, teacher)
        best = None
        if self._best and not peer:
            best = evaluate.accuracy(self._company.predict(test, self._best), test.labels)
        if ranks.leads():
            self._logbook.ship(weights, self._best if best is not None else None)
            self._logbook.predict(logits, test.labels, self._resident.classes, self.at.epoch)
        last = measured["test_accuracy"]
        gap = None if best is None or last is None else best - last
        found = {**measured, "best_validation_test_accuracy": best, "best_last_gap": gap}
        self._close("finished", None, found, peer if self._company.has_peers else None)

    def _diverge(self, what: str) -> None:
        names = ("test_accuracy", "test_nll", "ece", "agreement", "kl_to_teacher")
        unmeasured: dict[str, Any] = dict.fromkeys((*names, "best_validation_test_accuracy", "best_last_gap"))
        self._close("diverged", f"{what}; try a lower learning rate.", unmeasured, None)

    def _close(self, status: str, reason: str | None, measured: Mapping[str, Any], peer: int | None) -> None:
        self.done = True
        if not ranks.leads():
            return
        student, judged = self._logbook.student, self._judgement
        result = {
            "status": status,
            "reason": reason,
            "seed": self.run.seed,
            "epochs": self.at.epoch,
            "steps": self.at.step,
            "seconds": round(self.at.seconds, 3),
            **measured,
            "best_validation_epoch": self.at.best_epoch,
            "parameters": student["parameters"],
            "mult_adds": student["mult_adds"],
            **costs(self.run, self.at.epoch, self._source, student["parameters"]),
            # One that comes about with the student stands behind no other run.
            "teacher": self.run.teacher.identity() if self.run.teacher and self.run.teacher.outside else None,
            "teacher_accuracy": None if judged is None else judged.accuracy,
            "member_accuracies": None if judged is None else list(judged.members),
            "peer": peer,
            "bitwise": self._logbook.bitwise,
        }
        self._logbook.close(result)
