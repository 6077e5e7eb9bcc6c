"""A term of the user's own is known by its source."""

import importlib.util
import linecache
import sys
from pathlib import Path
from types import ModuleType

import pytest

from potstill.data import Data
from potstill.methods import Labels
from potstill.models import Network
from potstill.optim import Optimizer
from potstill.run import Run, fingerprint
from potstill.stage import Stage
from potstill.term import Term

MINE = """
from dataclasses import dataclass
from typing import ClassVar
from potstill.methods import Labels

@dataclass(frozen=True, kw_only=True)
class Mine(Labels):
    citation: ClassVar[str] = "mine"

    def loss(self, batch, student, teacher, learned, progress):
        return {factor} * student.logits.square().mean()
"""


def run(*terms: Term) -> Run:
    stage = Stage(terms=terms, epochs=1, optimizer=Optimizer())
    return Run(name="mine", student=Network("digits_mlp", 10, 1), data=Data(name="digits"), stages=(stage,))


def loaded(path: Path, factor: int, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path.write_text(MINE.format(factor=factor))
    linecache.checkcache(str(path))
    spec = importlib.util.spec_from_file_location("my_terms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "my_terms", module)
    spec.loader.exec_module(module)
    return module


def test_an_edited_term_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    once = fingerprint(run(loaded(tmp_path / "my_terms.py", 1, monkeypatch).Mine()))
    again = fingerprint(run(loaded(tmp_path / "my_terms.py", 1, monkeypatch).Mine()))
    edited = fingerprint(run(loaded(tmp_path / "my_terms.py", 2, monkeypatch).Mine()))
    assert once == again
    assert edited != once
    assert fingerprint(run(Labels())) not in (once, edited)
