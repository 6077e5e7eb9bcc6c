"""Commands whose output goes somewhere else than into a terminal, or cannot go there."""

import subprocess
import sys
from pathlib import Path

import pytest

from potstill.cli import main

from .conftest import MINE
from .screen import refused

POTSTILL = [sys.executable, "-m", "potstill.cli"]


def test_a_reader_that_leaves_early_is_no_mistake():
    with subprocess.Popen([*POTSTILL, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout
        assert command.stderr
        command.stdout.close()
        assert command.stderr.read() == ""
    assert command.returncode == 141


def test_a_folder_where_a_file_should_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = tmp_path / "runs"
    assert main(["run", f"{MINE}:right", "--quiet", "--runs-dir", str(runs)]) == 0
    page = tmp_path / "report" / "report.html"
    page.mkdir(parents=True)
    capsys.readouterr()
    told = refused(capsys, ["report", str(runs), "--out", str(page.parent)])
    assert told == f"{page} cannot be read or written: Is a directory."
