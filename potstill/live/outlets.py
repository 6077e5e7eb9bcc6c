"""What a run tells beside its record, to all who were asked for; none of them can end a training."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from potstill.errors import UserError
from potstill.live.outlet import Outlet, Start, confusion, measures, values
from potstill.record import Json

Kind = Literal["events", "mlflow", "wandb"]
"""TensorBoard's event files, MLflow, or Weights & Biases."""

_NAMES: dict[Kind, str] = {"events": "TensorBoard events", "mlflow": "MLflow", "wandb": "Weights & Biases"}
_NEEDED = {"mlflow": ("pytorch_lightning", "mlflow"), "wandb": ("pytorch_lightning", "wandb")}
"""What each logger imports, by the name of its extra."""


def chosen(events: bool, logger: Literal["mlflow", "wandb"] | None) -> tuple[Kind, ...]:
    """What a user's choices mean.

    Args:
        events: Whether event files are written.
        logger: Who is told beside them.

    Raises:
        UserError: it is not installed.
    """
    files: tuple[Kind, ...] = ("events",) if events else ()
    if logger is None:
        return files
    if logger not in _NEEDED:
        raise UserError(f"The logger is {logger!r}; expected one of {', '.join(_NEEDED)}.")
    missing = [name for name in _NEEDED[logger] if not _is_installed(name)]
    if missing:
        raise UserError(
            f"The logger is {logger!r}, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
            f'installed; install the extra: pip install "potstill[{logger}]".'
        )
    return (*files, logger)


def _is_installed(name: str) -> bool:
    """Whether a package can be imported; a folder of that name, such as the one of offline runs, is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


class Outlets:
    """The outlets of one run.

    Args:
        kinds: Which.
        start: The run.
        lines: What `metrics.jsonl` has already; an outlet that is new hears of it.
        say: Tells a person why an outlet is left.
    """

    def __init__(self, kinds: Sequence[Kind], start: Start, lines: Sequence[Json], say: Callable[[str], None]):
        self._name = f"{start.name} (seed {start.settings['seed']})"
        self._say = say
        self._open: dict[Kind, Outlet] = {}
        for kind in kinds:
            self._try(kind, lambda kind=kind: self._begin(kind, start, lines))

    def epoch(self, line: Json) -> None:
        """An epoch's line was written."""
        self._each(lambda outlet: _tell(outlet, line))

    def tested(self, answers: NDArray[Any], labels: NDArray[Any], classes: int, epoch: int) -> None:
        """The test split was read: its answers, (N,), and labels, (N,)."""
        if self._open:
            picture = confusion(answers, labels, classes)
            self._each(lambda outlet: outlet.show(epoch, picture))

    def end(self, result: Json) -> None:
        """The result is about to be written."""
        finished = result["status"] == "finished"
        self._each(lambda outlet: outlet.end(result["epochs"], measures(result), finished))

    def _begin(self, kind: Kind, start: Start, lines: Sequence[Json]) -> None:
        outlet = self._open[kind] = _opened(kind, start)
        for line in lines:
            _tell(outlet, line)

    def _each(self, tell: Callable[[Outlet], None]) -> None:
        for kind, outlet in list(self._open.items()):
            self._try(kind, lambda outlet=outlet: tell(outlet))

    def _try(self, kind: Kind, action: Callable[[], None]) -> None:
        """Do it; whatever goes wrong is said, and the training goes on without this outlet."""
        try:
            action()
        except Exception as error:
            self._open.pop(kind, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._say(f"{self._name} goes on without {_NAMES[kind]} ({reason}).")


def _opened(kind: Kind, start: Start) -> Outlet:
    """Imported here, for each costs its time and one that was not asked for none."""
    if kind == "events":
        from potstill.live.events import Events

        return Events(start)
    from potstill.live.loggers import MLflow, WandB

    return MLflow(start) if kind == "mlflow" else WandB(start)


def _tell(outlet: Outlet, line: Json) -> None:
    if line["epoch"] > outlet.reached:
        outlet.tell(line["epoch"], line.get("time") or time.time(), values(line))
        outlet.reached = line["epoch"]
