"""The step, and all the state that steps change."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from potstill import ranks
from potstill.checkpoint import Values
from potstill.machine import Machine
from potstill.objective import Objective, weighted_sum
from potstill.seeds import fold
from potstill.stage import Stage
from potstill.taps import match
from potstill.term import Progress
from potstill.types import Batch, Trace


class Learner:
    """One stage of one training: objective, optimizer, step count, and the sums of the running epoch.

    Whatever a step changes is here, and `state` returns it; `load` puts it back bit for bit.
    """

    def __init__(
        self,
        objective: Objective,
        stage: Stage,
        machine: Machine,
        *,
        seed: int,
        steps_per_epoch: int,
        in_turn: bool = False,
    ):
        self.objective = objective
        self.stage = stage
        self.stage_step = 0
        self._machine = machine
        self._seed = seed
        self._steps_per_epoch = steps_per_epoch
        # Peers take one step together, or each its own.
        self._turns: tuple[int | None, ...] = tuple(range(1 + len(objective.peers))) if in_turn else (None,)
        # What an inside teacher is made of goes along with the student, and is not trained.
        trained = [name for name, _ in objective.named_parameters() if not name.startswith("inside.")]
        moving = set(match(trained, stage.train, "parameters"))
        for name, parameter in objective.named_parameters():
            parameter.requires_grad_(name in moving)
        self.optimizer = stage.optimizer.build(p for p in objective.parameters() if p.requires_grad)
        # Sums over the images of the epoch: each term's loss, the total, right answers.
        precise = torch.float32 if machine.device == "mps" else torch.float64
        self._sums = torch.zeros(len(stage.terms) + 2, dtype=precise, device=machine.device)
        self._seen = 0

    def step(self, batch: Batch, teacher: Trace | None, step: int) -> None:
        """One update. Nothing in here waits for the device.

        Args:
            batch: What was drawn.
            teacher: What the outside teacher said about it, where a term asks.
            step: Steps since the run began; the generator is seeded by it, so dropout needs no memory.
        """
        self._machine.seed(fold(self._seed, "step", step))
        progress = self._progress(step)
        rate = self.stage.optimizer.learning_rate * self.stage.schedule.factor(progress.epoch, progress.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.objective.train()
        losses, total, logits = self._update(batch, teacher, progress, self._turns[0])
        for turn in self._turns[1:]:
            more, further, _ = self._update(batch, teacher, progress, turn)
            losses = {key: loss + more[key] for key, loss in losses.items()}
            total = total + further
        self._count(batch, losses, total, logits)
        self.objective.advance(batch, logits, step)
        self.stage_step += 1

    def _update(
        self, batch: Batch, teacher: Trace | None, progress: Progress, turn: int | None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Look and step, with all that moves or peer number `turn` alone: losses, their total, the student's logits."""
        with self._machine.autocast():
            losses, logits = self.objective(batch, teacher, progress, turn)
        total = weighted_sum(losses, self.stage.terms, progress)
        if turn is None or total.requires_grad:  # A peer of which nothing moves has no step to take.
            total.backward()
            ranks.average(self._apart())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)  # While others of a cohort step, nobody needs it.
        return {key: loss.detach() for key, loss in losses.items()}, total.detach(), logits.detach()

    @torch.no_grad()
    def judge(self, batch: Batch, teacher: Trace | None, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """The losses and logits of a batch without learning from it: the validation pass.

        Returns:
            The loss of each term and, under "loss", what they sum to with their weights; and float32 logits.
        """
        self._machine.seed(fold(self._seed, "judge", step))
        progress = self._progress(step)
        self.objective.eval()
        with self._machine.autocast():
            losses, logits = self.objective(batch, teacher, progress)
        return {**losses, "loss": weighted_sum(losses, self.stage.terms, progress)}, logits.float()

    @property
    def learning_rate(self) -> float:
        """The rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def epochs_done(self) -> int:
        """Whole epochs of this stage so far."""
        return self.stage_step // self._steps_per_epoch

    def means(self) -> dict[str, Any]:
        """The running epoch's means over its images, for `metrics.jsonl`; this waits for the device."""
        values = cast(list[float], (self._sums / max(self._seen, 1)).tolist())
        keys = [term.key for term in self.stage.terms]
        return {"loss": values[-2], "accuracy": values[-1], "terms": dict(zip(keys, values, strict=False))}

    def finite(self) -> bool:
        """Whether every loss of the running epoch was a finite number; this waits for the device."""
        return bool(self._sums.isfinite().all())

    def begin_epoch(self) -> None:
        """Empty the sums."""
        self._sums.zero_()
        self._seen = 0

    def state(self) -> tuple[dict[str, Tensor], Values]:
        """Everything that steps changed: tensors by name, and plain values."""
        tensors = {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        tensors["sums"] = self._sums
        scalars: dict[str, Any] = {}
        for place, key, value in self._optimizer_state():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{place}.{key}"] = value
            else:
                scalars[f"{place}.{key}"] = value
        return tensors, {"stage_step": self.stage_step, "seen": self._seen, "optimizer": scalars}

    def load(self, tensors: dict[str, Tensor], values: Values) -> None:
        """Put back what `state` returned, into memory laid out as it was.

        Files hold every tensor in the ordinary layout, and fused optimizers walk memory: a momentum in another layout
        than its parameter would silently be another training.
        """
        prefix = "objective."
        self.objective.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, place, key = name.split(".", 2)
                state.setdefault(int(place), {})[key] = value
        for name, value in values["optimizer"].items():
            place, key = name.split(".", 1)
            state.setdefault(int(place), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, slots in self.optimizer.state.items():
            for key, value in slots.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    laid_out = torch.empty_like(parameter, dtype=value.dtype, device=value.device)
                    slots[key] = laid_out.copy_(value)
        self._sums.copy_(tensors["sums"])
        self.stage_step, self._seen = values["stage_step"], values["seen"]

    def _progress(self, step: int) -> Progress:
        return Progress(step, self.stage_step / self._steps_per_epoch, self.stage.epochs)

    @torch.no_grad()
    def _count(self, batch: Batch, losses: dict[str, Tensor], total: Tensor, logits: Tensor) -> None:
        images = len(batch.labels)
        means = torch.stack([losses[term.key].detach().float() for term in self.stage.terms] + [total.detach().float()])
        self._sums[:-1].add_(means, alpha=images)
        self._sums[-1].add_((logits.argmax(1) == batch.labels).sum())
        self._seen += images

    def _apart(self) -> Iterator[Tensor]:
        """What the ranks know after a backward pass for their slices only."""
        yield from (p.grad for p in self.objective.parameters() if p.grad is not None)
        yield from self.objective.statistics()

    def _optimizer_state(self) -> Iterator[tuple[int, str, Any]]:
        for place, slots in self.optimizer.state_dict()["state"].items():
            for key, value in slots.items():
                if value is not None:
                    yield place, key, value
