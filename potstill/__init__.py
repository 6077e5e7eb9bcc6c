"""Knowledge distillation for image classifiers: a library, and a workbench for comparisons that hold.

Everything named here is public. Names are looked up when they are first used, so that `import potstill` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from potstill.api import Result as Result
    from potstill.api import distill as distill
    from potstill.data import CropFlip as CropFlip
    from potstill.data import Data as Data
    from potstill.data import Warp as Warp
    from potstill.errors import RunFailed as RunFailed
    from potstill.errors import UserError as UserError
    from potstill.models import Network as Network
    from potstill.optim import Constant as Constant
    from potstill.optim import Cosine as Cosine
    from potstill.optim import MultiStep as MultiStep
    from potstill.optim import OneCycle as OneCycle
    from potstill.optim import Optimizer as Optimizer
    from potstill.optim import Schedule as Schedule
    from potstill.optim import Step as Step
    from potstill.optim import Warmup as Warmup
    from potstill.run import ResultOf as ResultOf
    from potstill.run import Run as Run
    from potstill.run import fingerprint as fingerprint
    from potstill.run import result_of as result_of
    from potstill.stage import EarlyStopping as EarlyStopping
    from potstill.stage import Stage as Stage
    from potstill.sweep import Arm as Arm
    from potstill.sweep import Sweep as Sweep
    from potstill.taps import trace as trace
    from potstill.teachers import Given as Given
    from potstill.teachers import Teacher as Teacher
    from potstill.term import Term as Term
    from potstill.types import Batch as Batch
    from potstill.types import Trace as Trace

_HOME = {
    "api": ("Result", "distill"),
    "data": ("CropFlip", "Data", "Warp"),
    "errors": ("RunFailed", "UserError"),
    "models": ("Network",),
    "optim": ("Constant", "Cosine", "MultiStep", "OneCycle", "Optimizer", "Schedule", "Step", "Warmup"),
    "run": ("ResultOf", "Run", "fingerprint", "result_of"),
    "stage": ("EarlyStopping", "Stage"),
    "sweep": ("Arm", "Sweep"),
    "taps": ("trace",),
    "teachers": ("Given", "Teacher"),
    "term": ("Term",),
    "types": ("Batch", "Trace"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"potstill.{module}"), name)
    raise AttributeError(f"module 'potstill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _HOME.values() for name in names)])
