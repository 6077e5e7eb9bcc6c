from pathlib import Path

import pytest

from .folders import Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    folder = tmp_path / "runs"
    folder.mkdir()
    return Runs(folder)
