"""What every test stands on: one thread, types and shapes that are checked, and a folder for runs."""

import os
import shutil
from pathlib import Path
from typing import Any

from beartype import BeartypeConf
from beartype.claw import beartype_packages
from jaxtyping import install_import_hook

# As many tests run at a time as there are cores; this must stand before torch is imported, and holds for all processes
# that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Every record is written through to the disk, a tenth of the tests' time. Files in memory are files too, where there is
# room for them.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 8 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# The pure functions over tensors: dimensions of one name must agree.
SHAPED = ("potstill.methods", "potstill.evaluate", "potstill.divergence", "potstill.gaussian", "potstill.gram")
# What `torch.compile` traces, what names types that only a type checker imports, and what refuses a wrong word with a
# sentence of its own.
UNCHECKED = (
    "potstill.taps",
    "potstill.pixels",
    "potstill.narrow",
    "potstill.teachers.teacher",
    "potstill.teachers.ensemble",
    "potstill.teachers.controls",
    "potstill.teachers.peers",
    "potstill.teachers.sampled",
    "potstill.models",
    "potstill.recipes",
    "potstill.data.spec",
)

# An int is a float here: `temperature=4`.
beartype_packages(("potstill",), conf=BeartypeConf(is_pep484_tower=True, claw_skip_package_names=(*SHAPED, *UNCHECKED)))
install_import_hook(list(SHAPED), "shapes.check")

import pytest  # noqa: E402
import torch  # noqa: E402

from potstill.teachers import teacher  # noqa: E402
from potstill.teachers.source import Live  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever the test before had asked for."""
    torch.set_num_threads(1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Live]:
    """Every network of a teacher that was set to work."""
    found: list[Live] = []

    def keep(*given: Any) -> Live:
        found.append(Live(*given))
        return found[-1]

    monkeypatch.setattr(teacher, "Live", keep)
    return found


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Where a test's runs are written; it does not exist yet."""
    return tmp_path / "runs"
