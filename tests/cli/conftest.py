"""Folders with files of recipes."""

import shutil
import sys
from pathlib import Path

import pytest

from potstill.cli import main

MINE = Path(__file__).with_name("mine.py")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with files of recipes, no data and no network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("POTSTILL_DATA", str(tmp_path / "empty"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copy(MINE, tmp_path)
    (tmp_path / "imports.py").write_text("import no_such_module\n\ndef idea(): pass\n")
    (tmp_path / "syntax.py").write_text("def idea(:\n    pass\n")
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "random.py").write_text("def idea(): pass\n")
    (tmp_path / "a_file").write_text("")
    return tmp_path


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep in `runs`."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(MINE, folder / "finished.py")
    assert main(["run", str(folder / "finished.py:right"), "--runs-dir", str(folder / "runs"), "--quiet"]) == 0
    return folder
