"""What TensorBoard reads of a run, in its own reader: the record's numbers, once each, whatever was killed."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from kills import KILLED, Nursery
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from potstill import checkpoint, record
from potstill.cli import main
from potstill.display import Silent
from potstill.live.events import FILES
from potstill.live.outlet import CONFUSION, confusion, settings, values
from potstill.methods import KD, Labels
from potstill.stage import Stage

CASE = "SGD-fused-fp32"
ON: dict[str, Any] = {"outlets": ["events"]}
MESSAGE: Any = vars(plugin_data_pb2)["HParamsPluginData"]  # Made when it is imported.


def read(folder: Path) -> EventAccumulator:
    """All points of a run."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar's points: epoch and value."""
    found: Any = read(folder)
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def plugin(folder: Path) -> dict[str, Any]:
    """What the plugin of hyper-parameters is told."""
    told = read(folder).PluginTagToContent("hparams")
    messages = {tag: MESSAGE.FromString(content) for tag, content in told.items()}
    return {tag.removeprefix("_hparams_/"): message for tag, message in messages.items()}


def only(runs_dir: Path) -> Path:
    (folder,) = (path for path in runs_dir.iterdir() if path.is_dir())
    return folder


def assert_as_recorded(folder: Path) -> None:
    """Every number of the record is there once and nothing else is."""
    found = record.Record(folder)
    result = found.result
    assert result is not None
    wanted: dict[str, list[tuple[int, float]]] = {}
    for line in found.metrics:
        wanted.setdefault("learning_rate", []).append((line["epoch"], line["learning_rate"]))
        wanted.setdefault("seconds", []).append((line["epoch"], line["seconds"]))
        for split in ("train", "validation"):
            part = line[split]
            for key in ("loss", "accuracy", *(["nll"] if split == "validation" else [])):
                wanted.setdefault(f"{split}/{key}", []).append((line["epoch"], part[key]))
            for term, loss in part["terms"].items():
                wanted.setdefault(f"{split}/terms/{term}", []).append((line["epoch"], loss))
    for tag in ("accuracy", "nll", "ece", "agreement", "kl_to_teacher"):
        value = result[tag if tag in result else f"test_{tag}"]
        wanted[f"test/{tag}"] = [(result["epochs"], value)]
    wanted["test/accuracy_of_best_validation"] = [(result["epochs"], result["best_validation_test_accuracy"])]
    assert curves(folder) == {
        tag: [(step, pytest.approx(value, rel=1e-6)) for step, value in points] for tag, points in wanted.items()
    }
    assert len(read(folder).Images(CONFUSION)) == 1


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def test_the_events_are_the_record(runs_dir: Path):
    (folder,) = tiny.train_in(runs_dir, [tiny.run()], outlets=("events",))
    assert_as_recorded(folder)
    assert [path.name for path in folder.glob(FILES)] == ["events.out.tfevents.0000000001.potstill"]
    wall = [point.wall_time for point in read(folder).Scalars("train/loss")]
    assert wall == [line["time"] for line in record.Record(folder).metrics]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([("step", 3)], marks=pytest.mark.slow),  # Before anything was told.
        [("epoch", 1)],  # The line is there, its events are not.
        [("step", 9), ("stage", 1), ("epoch", 3)],
        [("step", 17), ("line", 3), ("student", 1), ("result half", 1)],
    ],
    ids=str,
)
def test_after_kills_no_point_is_there_twice_and_none_is_left_over(
    kills: list[tuple[str, int]], tmp_path: Path, nursery: Nursery
):
    # Checkpoints are written at about every fifth step, so that each kill takes back some.
    for kill, at in kills:
        assert nursery.train(CASE, tmp_path, kill=kill, at=at, pause=5, ticks=True, **ON) == KILLED, (kill, at)
    starts = len(list(only(tmp_path).glob(FILES)))
    assert nursery.train(CASE, tmp_path, pause=5, ticks=True, **ON) == 0
    assert len(list(only(tmp_path).glob(FILES))) == starts + 1
    assert_as_recorded(only(tmp_path))


def test_points_beyond_the_checkpoint_are_withdrawn_before_they_are_told_again(tmp_path: Path, nursery: Nursery):
    assert nursery.train(CASE, tmp_path, kill="line", at=4, pause=17, ticks=True, **ON) == KILLED
    folder = only(tmp_path)
    assert [step for step, _ in curves(folder)["train/loss"]] == [1, 2, 3]
    loaded = checkpoint.read(folder / "checkpoint.safetensors")
    assert loaded is not None
    at = loaded[1]["at"]
    assert 0 < at["epoch"] < 3
    assert nursery.train(CASE, tmp_path, kill="step", at=at["step"], pause=1e9, **ON) == KILLED
    assert [step for step, _ in curves(folder)["train/loss"]] == list(range(1, at["epoch"] + 1))


def test_a_record_cut_short_in_an_event_file_costs_its_own_points_at_most(tmp_path: Path, nursery: Nursery):
    assert nursery.train(CASE, tmp_path, kill="step", at=15, pause=5, ticks=True, **ON) == KILLED
    (path,) = only(tmp_path).glob(FILES)
    path.write_bytes(path.read_bytes()[:-7])
    assert nursery.train(CASE, tmp_path, pause=5, ticks=True, **ON) == 0
    found = curves(only(tmp_path))["train/loss"]
    assert [step for step, _ in found][-2:] == [3, 4]
    assert len(found) == len({step for step, _ in found})


def test_events_that_are_wanted_later_begin_with_the_first_epoch(tmp_path: Path, nursery: Nursery):
    assert nursery.train(CASE, tmp_path, kill="step", at=15, pause=0) == KILLED
    assert not list(only(tmp_path).glob(FILES))
    assert nursery.train(CASE, tmp_path, **ON) == 0
    assert_as_recorded(only(tmp_path))


def test_a_cohort_has_events_for_each_member(tmp_path: Path, nursery: Nursery):
    assert nursery.train("unlike", tmp_path, kill="step", at=14, pause=5, ticks=True, **ON) == KILLED
    assert nursery.train("unlike", tmp_path, pause=5, ticks=True, **ON) == 0
    for folder in tmp_path.iterdir():
        assert_as_recorded(folder)


def test_telling_changes_no_bit_of_the_student(runs_dir: Path, tmp_path: Path):
    (told,) = tiny.train_in(runs_dir, [tiny.run()], outlets=("events",))
    (untold,) = tiny.train_in(tmp_path / "untold", [tiny.run()])
    assert tiny.told(told) == tiny.told(untold)
    assert told.name == untold.name


def test_hyper_parameters_tell_the_run(runs_dir: Path):
    term = KD(temperature=3, weight=0.7, name="soft")
    run = tiny.run("arm", stages=[Stage(terms=(Labels(), term), epochs=1, optimizer=tiny.SGD)])
    (folder,) = tiny.train_in(runs_dir, [run], outlets=("events",))
    told = plugin(folder)
    begun = told["session_start_info"].session_start_info
    found = {key: getattr(value, value.WhichOneof("kind")) for key, value in begun.hparams.items()}
    wanted = {
        "name": "arm",
        "seed": 7,
        "student": "digits_conv",
        "data": "tiny",
        "batch_size": 8,
        "teacher": "Given",
        "epochs": 1,
        "optimizer": "SGD",
        "learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "labels.weight": 1,
        "soft.weight": 0.7,
        "soft.temperature": 3,
        "soft.only_right": False,
    }
    assert {key: found[key] for key in wanted} == wanted
    assert told["session_end_info"].session_end_info.status == 1


def test_settings_of_several_stages_carry_the_names_of_their_stages():
    spec = record.Json(json.loads(json.dumps(tiny_spec())))
    flat = settings(spec)
    assert (flat["hint.epochs"], flat["train.schedule"], flat["hint.kd.temperature"]) == (2, "Cosine", 3.0)
    spec["stages"][1]["name"] = "hint"
    flat = settings(spec)
    assert (flat["1.kd.temperature"], flat["2.labels.smoothing"]) == (3.0, 0.1)


def tiny_spec() -> dict[str, Any]:
    from potstill.codec import encode

    return encode(tiny.run())


def test_a_line_without_validation_has_no_validation_points(runs_dir: Path):
    run = tiny.run(data=tiny.data(validation=0.0), stages=[tiny.labels_only(1)], teacher=None)
    (folder,) = tiny.train_in(runs_dir, [run], outlets=("events",))
    found = curves(folder)
    assert not [tag for tag in found if tag.startswith("validation/")]
    assert "test/agreement" not in found
    (line,) = record.Record(folder).metrics
    assert set(values(line)) < set(found)


def test_the_picture_shows_the_confusions(runs_dir: Path):
    (folder,) = tiny.train_in(runs_dir, [tiny.run()], outlets=("events",))
    (shown,) = read(folder).Images(CONFUSION)
    picture = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))
    assert picture.shape == (shown.height, shown.width, 3) == (320, 320, 3)
    found = record.Record(folder).result
    assert found is not None
    # In the middle of each cell; on the diagonal the tint is the root of a class's accuracy.
    blue = picture[40::80, 40::80, 0].diagonal()
    shares = (1 - blue / 255.0) ** 2
    assert shares.mean() == pytest.approx(found["test_accuracy"], abs=0.01)


def test_confusions_are_orange_off_the_diagonal_and_many_classes_are_a_pixel_each():
    answers, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    picture = np.asarray(Image.open(io.BytesIO(confusion(answers, labels, 2))))
    right, wrong, never = picture[240, 240], picture[80, 240], picture[240, 80]
    assert right.tolist() == [0, 114, 178]
    assert never.tolist() == [255, 255, 255]
    assert wrong[0] > wrong[1] > wrong[2]
    many = np.asarray(Image.open(io.BytesIO(confusion(np.arange(1000), np.arange(1000), 1000))))
    assert many.shape == (1000, 1000, 3)


def test_a_run_that_diverges_says_so(runs_dir: Path):
    wild = replace(tiny.SGD, learning_rate=1e30)
    (folder,) = tiny.train_in(runs_dir, [tiny.run(stages=[tiny.labels_only(2, wild)])], outlets=("events",))
    assert record.Record(folder).status == "diverged"
    assert not [tag for tag in curves(folder) if tag.startswith("test/")]
    assert plugin(folder)["session_end_info"].session_end_info.status == 2


class Breaking(Silent):
    """When the cohort begins, the disk that holds its events is full."""

    def __init__(self, runs_dir: Path):
        self._runs_dir = runs_dir
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)

    def begin(self, what: str, steps: int) -> None:
        for path in self._runs_dir.glob(f"*/{FILES}"):
            path.unlink()
            path.symlink_to("/dev/full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_under_the_events_ends_no_training(runs_dir: Path):
    display = Breaking(runs_dir)
    (folder,) = tiny.train_in(runs_dir, [tiny.run()], outlets=("events",), display=display)
    assert record.Record(folder).status == "finished"
    (said,) = (line for line in display.said if "events" in line)
    assert said == ("run (seed 7) goes on without TensorBoard events (OSError: [Errno 28] No space left on device).")


def test_without_tensorboard_a_training_goes_on(runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "potstill.live.events")
    display = Breaking(runs_dir)
    (folder,) = tiny.train_in(runs_dir, [tiny.run()], outlets=("events",), display=display)
    assert record.Record(folder).status == "finished"
    (said,) = (line for line in display.said if "events" in line)
    assert said.startswith("run (seed 7) goes on without TensorBoard events (ModuleNotFoundError: ")


def test_the_flag_switches_them_off_and_is_no_part_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe = str(Path(__file__).parents[1] / "cli" / "mine.py:right")
    assert main(["run", recipe, "--runs-dir", str(tmp_path / "off"), "--events", "off", "--quiet"]) == 0
    assert main(["run", recipe, "--runs-dir", str(tmp_path / "on"), "--quiet"]) == 0
    off, on = only(tmp_path / "off"), only(tmp_path / "on")
    assert off.name == on.name
    assert not list(off.glob(FILES))
    assert len(list(on.glob(FILES))) == 1
    assert main(["run", recipe, "--runs-dir", str(tmp_path / "off")]) == 0
    assert capsys.readouterr().out.startswith("All 1 runs are finished")
    assert not list(off.glob(FILES))
