import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.cli import main

RECIPES = Path(__file__).with_name("recipes.py")


def command(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "potstill.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison in `runs`."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(RECIPES, folder / "tiny_recipes.py")
    for recipe, runs in (("pair", "runs"), ("crowd", "crowd"), ("peers", "peers")):
        words = [
            "run",
            f"{folder}/tiny_recipes.py:{recipe}",
            "--runs-dir",
            f"{folder}/{runs}",
            "--quiet",
            "--jobs",
            "1",
        ]
        assert main(words) == 0
    return folder


@pytest.fixture(scope="package")
def analyzed(trained: Path) -> Path:
    """The same after a second look at it."""
    folder = trained.with_name("analyzed")
    shutil.copytree(trained, folder)
    assert main(["analyze", str(folder / "runs"), "--threads", "1", "--quiet"]) == 0
    return folder
