"""The measuring itself: order, statistics, and what is written down. No figure of a real machine is asserted."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import filling, memory, pairs, pixels, reaching, steps
from benchmarks.__main__ import add, main
from benchmarks.claims import claim, of_steps
from benchmarks.machine import conditions, slug
from benchmarks.pairs import Pair
from benchmarks.rounds import Row, in_turn
from benchmarks.table import Table
from potstill import recipes
from potstill.machine import Choices
from potstill.models import Network
from potstill.record import read_json


def test_alternatives_are_measured_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def measured(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    rows = in_turn({"a": lambda: measured("a"), "b": lambda: measured("b")}, repetitions=2)
    assert calls == ["a", "b"] * 3
    assert rows == (Row("a", (3.0, 5.0)), Row("b", (4.0, 6.0)))


def test_a_table_tells_median_quartiles_and_ratio_to_its_first_row() -> None:
    table = Table("title", "seconds", (Row("base", (1.0, 2.0, 30.0)), Row("other", (5.0, 1.0, 9.0))))
    assert table.plain() == {
        "title": "title",
        "unit": "seconds",
        "rows": [
            {"name": "base", "median": 2.0, "quartiles": [1.5, 16.0], "ratio": 1.0, "values": [1.0, 2.0, 30.0]},
            {"name": "other", "median": 5.0, "quartiles": [3.0, 7.0], "ratio": 2.5, "values": [5.0, 1.0, 9.0]},
        ],
    }
    assert table.text().splitlines()[-1].split() == ["other", "5", "3", "…", "7", "3", "2.5"]
    assert Row("once", (4.0,)).quartiles == (4.0, 4.0)


def test_a_table_replaces_its_namesake_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results" / "machine.json"
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        add(path, name, {"value": value})
    assert read_json(path) == {"machine": "machine", "tables": {"a": {"value": 3}, "b": {"value": 2}}}


@pytest.fixture
def tiny_pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """A pair that trains in a moment, on images that a peer-style loop can read, with threads put back afterwards."""
    threads = torch.get_num_threads()
    for module in (pairs, steps):
        monkeypatch.setattr(module, "IMAGES", 70)
        monkeypatch.setattr(module, "BATCH_SIZE", 32)
    yield replace(pairs.DIGITS, teacher=_conv(8), student=_conv(4), shape=(3, 8, 8), peer_steps=1)
    torch.set_num_threads(threads)


def _conv(width: int) -> Network:
    return Network("digits_conv", 10, 3, options={"width": width})


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_step_is_measured_against_its_ceiling_and_a_peer(tiny_pair: Pair) -> None:
    table = steps.measure(tiny_pair, repetitions=2, choices=Choices(device="cpu"))
    names = [row.name for row in table.rows]
    assert names[:2] == ["constant batch", "labels"]
    assert {"kd, teacher live", "kd, answers kept", "cohort of 8", "peer-style loop"} <= set(names)
    assert all(value > 0 for row in table.rows for value in row.values)
    assert "64 images" not in table.title
    assert len(table.claims) == 6
    assert table.claims[-1].verdict == "told only"
    told = table.plain()["claims"]
    assert isinstance(told, list)
    assert [claim["least"] for claim in told][:3] == [0.95, 0.95, 0.9]
    assert "labels / constant batch: " in table.text()


def test_a_store_is_measured_as_it_is_filled_and_read(tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "IMAGES", 70)
    table = filling.measure(repetitions=2, pair=tiny_pair)
    assert [row.name for row in table.rows] == ["asked", "asked and stored", "read by another run"]
    assert all(value > 0 for row in table.rows for value in row.values)
    assert re.search(r"; (4\d|5\d|6\d) bytes an image and view$", table.title)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of the compiler's own.
def test_compiled_networks_are_measured_beside_the_others(tiny_pair: Pair) -> None:
    table = steps.compiled(tiny_pair, repetitions=1)
    plain = ["labels", "teacher alone", "kd, teacher live", "kd, answers kept"]
    assert [row.name for row in table.rows] == [*plain, *(f"{name}, compiled" for name in plain), "peer-style loop"]
    assert [claim.verdict for claim in table.claims] == ["told only"] * 2
    assert re.search(r"the first epoch took \d+ s for labels, \d+ s for teacher alone$", table.title)


@pytest.mark.slow
def test_every_way_arrives_at_an_accuracy() -> None:
    table = reaching.measure(repetitions=1, target=0.3)
    assert [row.name.rpartition(", ")[2] for row in table.rows] == [
        *("labels", "teacher live", "answers kept", "peer-style loop")
    ]
    assert all(value > 0 for row in table.rows for value in row.values)


def test_a_claim_holds_or_is_within_its_interval_or_does_not() -> None:
    def verdict(*values: float) -> str:
        rows = Row("a", values), Row("b", (10.0,) * len(values))
        return claim("a / b", lambda a, b: a / b, rows, 0.95).verdict

    assert verdict(9.6, 9.7, 9.8) == "holds"
    assert verdict(9.0, 9.1, 9.9) == "within the interval"
    assert verdict(9.0, 9.1, 9.2) == "does not hold"
    assert verdict(9.0) == "does not hold"


def test_an_interval_is_of_rounds_that_were_measured_together() -> None:
    # The machine was twice as fast in every other round, and the ratio the same.
    rows = Row("a", (2.0, 4.0, 2.0, 4.0, 2.0)), Row("b", (1.0, 2.0, 1.0, 2.0, 1.0))
    found = claim("a / b", lambda a, b: a / b, rows)
    assert (found.value, found.interval) == (2.0, (2.0, 2.0))


def test_small_maps_are_measured_in_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "BATCH_SIZE", 2)
    threads = torch.get_num_threads()
    try:
        table = pixels.measure(repetitions=1, names=("resnet18",))
    finally:
        torch.set_num_threads(threads)
    assert [row.name for row in table.rows] == [f"resnet18, {way}" for way in pixels.WAYS]
    assert all(value > 0 for row in table.rows for value in row.values)


def test_the_machine_is_told() -> None:
    told = conditions()
    assert told["versions"]["torch"] == str(torch.__version__)
    assert len(told["load"]) == 3
    assert slug().endswith(f"{told['threads']}-threads")
    assert set(slug()) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_peak_of_a_loss_is_what_it_holds_at_one_time() -> None:
    # Products of 10 MB, their squares, and the gradients of both: four at once, and little beside them.
    code = (
        "from benchmarks.memory import peak; "
        "print(peak(lambda s, t: (s @ t.T).square().sum(), (1581, 4), 'cuda' if __import__('torch').cuda.is_available()"
        " else 'cpu'))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 19 < float(told.stdout) < 60


def test_every_loss_of_the_memory_table_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POPULATION", 40)
    monkeypatch.setattr(memory, "CLASSES", 4)
    for losses, shape in ((memory.MAPS, (4, 3, 2, 2)), (memory.VECTORS, (4, 3))):
        for loss in losses.values():
            student = torch.randn(shape, requires_grad=True)
            loss(student, torch.randn(shape)).backward()
            assert student.grad is not None


@pytest.mark.parametrize(("device", "ceiling", "peer"), [("cuda", 0.9, (10, 10)), ("mps", 0.95, (None, None))])
def test_what_a_table_should_reach_depends_on_the_device(
    device: str, ceiling: float, peer: tuple[float | None, float | None]
) -> None:
    names = ("constant batch", "labels", "teacher alone", "kd, teacher live", "kd, answers kept", "cohort of 8")
    rows = {name: Row(name, (1.0, 2.0)) for name in (*names, "peer-style loop")}
    least = [claim.least for claim in of_steps(rows, device, judged=True)]
    assert (least[0], least[-2:]) == (ceiling, list(peer))
    assert [claim.least for claim in of_steps(rows, device, judged=False)] == [*least[:-2], None, None]


def test_an_unknown_measurement_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["strtup"])
    assert "there is no measurement strtup; expected startup, step-digits, step-resnet32x4" in capsys.readouterr().err


def test_what_speed_costs_is_asked_one_thing_at_a_time() -> None:
    sweep = recipes.find("benchmarks/accuracy.py:accuracy")()
    for reference, rounded, walking in (sweep.arms[:3], sweep.arms[3:]):
        data = reference.run.data
        assert (reference.run.precision, data.sharing) == ("fp32", "shared")
        assert replace(rounded.run, precision="fp32") == reference.run
        assert replace(walking.run, data=data) == reference.run
        assert (rounded.run.precision, walking.run.data.sharing) == ("bf16", "per-seed")
        assert (rounded.after, walking.after) == (reference.name, reference.name)
    assert len(sweep.seeds) >= 5
