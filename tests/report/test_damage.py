"""Whatever stands in a folder of runs, the good ones are reported, and each other one is named in a sentence."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import quick

from potstill.report import write
from potstill.report.load import gather

from .folders import Runs

TEXTS = {
    "empty": b"",
    "cut short": b'{"format": 1, "ru',
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"0",
    "no fields": b"{}",
    "binary": bytes(range(256)),
    "newer": b'{"format": 99, "version": "9.0"}',
}
FILES = ("run.json", "env.json", "summary.json", "metrics.jsonl", "result.json", "predictions.safetensors")
VALUES: tuple[Any, ...] = (None, "text", [], [1], {}, {"a": {}}, -1, True, 1e400)

Change = tuple[str, str, bytes]
"""A file, what is done to it, and what stands in it then."""


def contents() -> Iterator[Change]:
    """Every file with something else in it."""
    for file in FILES:
        for what, text in TEXTS.items():
            yield file, what, text + (b"\n" if file.endswith("l") else b"")


def fields(folder: Path) -> Iterator[Change]:
    """Every field of every file, in turn as something else."""
    for file in FILES[:-1]:
        known = json.loads((folder / file).read_text().splitlines()[0])
        for key in known:
            for value in VALUES:
                yield file, f"{key} {value!r}", (json.dumps(known | {key: value}) + "\n").encode()


def check(runs: Runs, changes: Iterable[Change], out: Path) -> None:
    """Every damaged run is either counted or named, and the page is written."""
    for seed in (1, 2, 3):
        runs.run("good", seed, 0.9 + seed / 1000)
        runs.run("better", seed, 0.95 + seed / 900)
    names: dict[str, str] = {}
    for place, (file, what, text) in enumerate(changes):
        folder = runs.run(f"arm {place}", 1, 0.8, count=2)
        (folder / file).write_bytes(text)
        names[f"arm {place}"] = f"{file}: {what}"
    file = runs.sweep(margin=0.0)
    (group,) = gather([file]).groups
    counted = {entry.arm for entry in group.entries}
    named = {notice.name.removesuffix(", seed 1"): notice.sentence for notice in group.left_out}
    assert counted & named.keys() == set()
    assert counted | named.keys() == {"good", "better", *names}
    assert all(sentence.endswith((".", "again")) and len(sentence) > 20 for sentence in named.values())
    page = write([file], out).read_text()
    assert "95.22" in page
    for name in named:
        assert f"<strong>{name}, seed 1</strong>" in page, names[name]


def test_every_file_may_hold_anything(runs: Runs, tmp_path: Path):
    check(runs, contents(), tmp_path / "out")


def test_every_field_may_hold_anything(runs: Runs, tmp_path: Path):
    changes = list(fields(Runs(tmp_path / "model").run("model", 1, 0.9, count=1)))
    assert len(changes) > 300
    check(runs, changes, tmp_path / "out")


@pytest.mark.parametrize(
    "key",
    quick.only(["arm", "seed", "after"], ["arm", "role", "seed", "published", "settings", "after", "change"]),
)
def test_what_a_sweep_says_of_a_run_may_be_anything(runs: Runs, tmp_path: Path, key: str):
    for place, value in enumerate(VALUES):
        runs.run(f"arm {place}", 1, 0.9)
        runs.named[-1] |= {key: value}
    runs.run("good", 1, 0.95)
    assert "95.00" in write([runs.sweep(margin=0.0)], tmp_path / "out").read_text()
