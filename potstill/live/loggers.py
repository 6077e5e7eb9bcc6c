"""MLflow and Weights & Biases through Lightning's loggers: optional, and without an account or a network.

`loggers.json` in the run folder keeps as what a run is known there, up to which epoch, and whether its test split was
told, so that one that was killed goes on as the same run, and no point is there twice.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger, WandbLogger  # pyright: ignore

from potstill import record
from potstill.live.outlet import CONFUSION, Outlet, Start

FILE = "loggers.json"
PROJECT = "potstill"
LOCAL = "sqlite:///mlflow.db"
"""Where MLflow's own commands look too, in the folder that one is in; files in `mlruns` are a thing of the past."""


class MLflow(Outlet):
    """A run of MLflow, at `MLFLOW_TRACKING_URI` or in `mlflow.db`."""

    def __init__(self, start: Start):
        self._folder = start.folder
        known = _known(start.folder, "mlflow")
        self.reached, self._tested = (known["epoch"], known["tested"]) if known else (0, False)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or LOCAL
        name = start.folder.name
        self._logger: Any = MLFlowLogger(
            experiment_name=PROJECT, run_name=name, tracking_uri=uri, run_id=known["run"] if known else None
        )
        if known is None:
            self._logger.log_hyperparams(dict(start.settings))
            self._keep(0)

    def tell(self, epoch: int, time: float, values: Mapping[str, float]) -> None:
        """As metrics, at the epoch."""
        self._logger.log_metrics(dict(values), step=epoch)
        self._keep(epoch)

    def show(self, epoch: int, picture: bytes) -> None:
        """As an artifact."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{Path(CONFUSION).name}.png"
            path.write_bytes(picture)
            self._logger.experiment.log_artifact(self._logger.run_id, str(path), str(Path(CONFUSION).parent))

    def end(self, epoch: int, values: Mapping[str, float], finished: bool) -> None:
        """As metrics of the last epoch."""
        if values and not self._tested:
            self._logger.log_metrics(dict(values), step=epoch)
            self._keep(epoch, True)
        self._logger.finalize("success" if finished else "failed")

    def _keep(self, epoch: int, tested: bool = False) -> None:
        _keep(self._folder, "mlflow", self._logger.run_id, epoch, tested)


class WandB(Outlet):
    """A run of Weights & Biases, in the folder `wandb` until `wandb sync` sends it, unless `WANDB_MODE` says else."""

    def __init__(self, start: Start):
        import wandb  # pyright: ignore

        self._folder = start.folder
        known = _known(start.folder, "wandb")
        self.reached, self._tested = (known["epoch"], known["tested"]) if known else (0, False)
        again: dict[str, Any] = {"id": known["run"], "resume": "allow"} if known else {}
        made: Any = wandb
        # A cohort is several runs in one process, which Lightning's logger alone would make one.
        self._run: Any = made.init(
            project=PROJECT,
            name=start.folder.name,
            mode=os.environ.get("WANDB_MODE") or "offline",
            reinit="create_new",
            settings=made.Settings(silent=True, console="off"),
            **again,
        )
        self._logger: Any = WandbLogger(experiment=self._run)
        self._logger.log_hyperparams(dict(start.settings))
        if known is None:
            _keep(start.folder, "wandb", self._run.id, 0)

    def tell(self, epoch: int, time: float, values: Mapping[str, float]) -> None:
        """As a row of its history, with the epoch as Lightning's step."""
        self._logger.log_metrics(dict(values), step=epoch)
        _keep(self._folder, "wandb", self._run.id, epoch)

    def show(self, epoch: int, picture: bytes) -> None:
        """As a picture of its history."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "confusion.png"
            path.write_bytes(picture)
            self._logger.log_image(CONFUSION, [str(path)], step=epoch)

    def end(self, epoch: int, values: Mapping[str, float], finished: bool) -> None:
        """As the last row, and in its summary."""
        if values and not self._tested:
            self._logger.log_metrics(dict(values), step=epoch)
            _keep(self._folder, "wandb", self._run.id, epoch, True)
        self._logger.finalize("success" if finished else "failed")
        self._run.finish(exit_code=0 if finished else 1)


def _known(folder: Path, kind: str) -> record.Json | None:
    return (record.read_json(folder / FILE) or {}).get(kind)


def _keep(folder: Path, kind: str, run: str, epoch: int, tested: bool = False) -> None:
    before = record.read_json(folder / FILE) or {}
    record.write_json(folder / FILE, {**before, kind: {"run": run, "epoch": epoch, "tested": tested}})
