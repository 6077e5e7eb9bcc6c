"""What a run under way writes into its folder, beside its checkpoint, and tells at the same time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.numpy
from torch import Tensor

from potstill import checkpoint, record
from potstill.codec import encode
from potstill.live.outlet import Start, settings
from potstill.live.outlets import Kind, Outlets
from potstill.machine import differences
from potstill.run import Run, fingerprint


class Logbook:
    """The specification of a run, a line for each epoch, and in the end what it learned and measured.

    Of several processes that train one run only the first has it.

    Attributes:
        bitwise: Whether it never went on under other versions, settings or hardware than those it began with.
    """

    def __init__(self, folder: Path, run: Run):
        self.bitwise = True
        self._folder = folder
        self._run = run
        record.make_folder(folder)
        for half_written in folder.glob("*.tmp"):
            half_written.unlink()

    def open(self, step: int, length: int, environment: record.Json, summary: Callable[[], Mapping[str, Any]]) -> None:
        """Begin, or go on where a checkpoint left the run.

        Args:
            step: Where that is; 0 without one.
            length: Bytes of the lines that it had written by then; what follows them is cut off.
            environment: What `env.json` shall say: the machine, the commit, the command.
            summary: What `summary.json` shall say, asked where the run begins.
        """
        before = record.read_json(self._folder / "env.json")
        record.cut(self._folder / "metrics.jsonl", length)
        if before is None or not step:
            identity = {"fingerprint": fingerprint(self._run), "name": self._run.name, "run": encode(self._run)}
            versions = {"format": record.FORMAT, "version": environment["versions"]["potstill"]}
            record.write_json(self._folder / "run.json", {**versions, **identity})
            record.write_json(self._folder / "summary.json", summary())
            before = cast(record.Json, {**environment, "resumed": []})
            record.write_json(self._folder / "env.json", before)
        elif unlike := differences(before, environment):
            before["resumed"].append({"step": step, "differences": unlike})
            record.write_json(self._folder / "env.json", before)
        self.bitwise = not before["resumed"]

    def tell(self, outlets: Sequence[Kind], epoch: int, say: Callable[[str], None]) -> None:
        """Tell others too from now on, after this epoch; `say` tells a person that one of them failed."""
        start = Start(self._folder, self._run.name, settings(encode(self._run)), epoch)
        self._live = Outlets(outlets, start, record.read_lines(self._folder / "metrics.jsonl"), say)

    @property
    def student(self) -> record.Json:
        """Size and layers of the student, as they were when the run began."""
        return (record.read_json(self._folder / "summary.json") or {})["student"]

    def line(self, line: record.Json) -> int:
        """Write an epoch down; returns the bytes of all lines."""
        length = record.append_line(self._folder / "metrics.jsonl", line)
        self._live.epoch(line)
        return length

    def ship(self, weights: Mapping[str, Tensor], best: Mapping[str, Tensor] | None) -> None:
        """Write the weights after the last epoch, and those of the best one where there were such."""
        if best is not None:
            checkpoint.write(self._folder / "best.safetensors", best)
        checkpoint.write(self._folder / "student.safetensors", weights)

    def predict(self, logits: Tensor, labels: Tensor, classes: int, epoch: int) -> None:
        """Write what the student answers on the test split: logits (N, K), and labels (N,) beside them."""
        predictions = {"logits": logits.cpu().numpy().astype(np.float16), "labels": labels.cpu().numpy()}
        record.write_bytes(self._folder / "predictions.safetensors", safetensors.numpy.save(predictions))
        self._live.tested(logits.argmax(1).cpu().numpy(), predictions["labels"], classes, epoch)

    def close(self, result: record.Json) -> None:
        """Write the result; nobody reads a checkpoint any more."""
        self._live.end(result)
        record.write_json(self._folder / "result.json", result)
        (self._folder / "checkpoint.safetensors").unlink(missing_ok=True)
