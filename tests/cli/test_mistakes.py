"""Whatever is wrong gets one clear sentence and status 2, and leaves nothing behind."""

import inspect
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from potstill import recipes
from potstill.cli import main

from .screen import boxed, refused

RUN = ("run", "digits:quickstart")

MISTAKES: dict[str, tuple[Sequence[str], str]] = {
    "verb": (("rn",), "There is no verb 'rn'; did you mean 'run'?"),
    "far verb": (
        ("train",),
        "There is no verb 'train'; expected one of run, tune, show, cache, list, watch, report, analyze, compare, "
        "plan.",
    ),
    "no recipe": (("run",), "No recipe was named; write `potstill run RECIPE`, with one of cifar10:fitnets, "),
    "no recipe, a flag": (("show", "--seed", "1"), "No recipe was named; write `potstill show RECIPE`, with one of "),
    "recipe": (("run", "digits:quickstrt"), "There is no recipe 'digits:quickstrt'; did you mean 'digits:quickstart'?"),
    "far recipe": (("show", "zzz"), "There is no recipe 'zzz'; expected one of cifar10:fitnets, "),
    "no file": (("run", "none.py:idea"), "There is no file none.py; expected path/to/file.py:function."),
    "only file": (("run", "mine.py"), "mine.py is a file; name a function in it: mine.py:function."),
    "no function": (("run", "mine.py:idea"), "mine.py has no function 'idea'; it has right, taught, wrong_model, "),
    "import": (
        ("run", "imports.py:idea"),
        "imports.py failed in line 1 (ModuleNotFoundError: No module named 'no_such_module'); mend it there.",
    ),
    "syntax": (("run", "syntax.py:idea"), "syntax.py is not valid Python: invalid syntax in line 1."),
    "hides a module": (
        ("run", "apart/random.py:idea"),
        "random.py is called like the module 'random', which it would hide",
    ),
    "parameter": (("run", "mine.py:clash"), "The recipe clash has a parameter 'seed', which is a flag of every recipe"),
    "answer": (("run", "mine.py:wrong_answer"), "The recipe returned dict; expected a Run, a list of Runs, or a Sweep"),
    "model": (("run", "mine.py:wrong_model"), "There is no network 'digits_cnn'; did you mean 'digits_conv' or "),
    "module": (("run", "mine.py:wrong_module"), "Network 'no.such:network': there is no module 'no' to import."),
    "data": (("run", "mine.py:wrong_data"), "There is no data set named 'digit'; did you mean 'digits'?"),
    "method": (("run", "mine.py:wrong_method"), "mine.py failed in line 41 (ImportError: cannot import name 'KDD' "),
    "attribute": (("run", "mine.py:wrong_attribute"), "module 'potstill.methods' has no attribute 'Lables'"),
    "temperature": ((*RUN, "--temperature", "0"), "The temperature is 0; expected a number > 0, usually from 1 to 20."),
    "own temperature": (("run", "mine.py:cold", "--temperature", "-1"), "The temperature is -1; expected a number > 0"),
    "temperature, no number": ((*RUN, "--temperature", "nan"), "The temperature is nan; expected a number > 0"),
    "weight": (("run", "mine.py:negative"), "The weight of 'labels' is -1; expected a number ≥ 0."),
    "no teacher": (("run", "mine.py:untaught"), "The term 'kd' of 'x' compares with a teacher, but the run has none"),
    "epochs": ((*RUN, "--epochs", "0"), "--epochs is 0; expected a whole number ≥ 1."),
    "seeds": ((*RUN, "--seeds", "0"), "--seeds is 0; expected a whole number ≥ 1."),
    "both": ((*RUN, "--seeds", "2", "--seed", "2"), "--seed and --seeds were both given; --seed 3 means that one, "),
    "threads": ((*RUN, "--threads", "x"), "--threads is 'x'; expected a whole number ≥ 1, or auto."),
    "no threads": ((*RUN, "--threads", "0"), "--threads is '0'; expected a whole number ≥ 1, or auto."),
    "jobs": ((*RUN, "--jobs", "many"), "--jobs is 'many'; expected a whole number ≥ 1, or auto."),
    "no devices": ((*RUN, "--devices", "0"), "--devices is '0'; expected a whole number ≥ 1, or auto."),
    "devices and jobs": (
        (*RUN, "--devices", "2", "--jobs", "2"),
        "--devices is 2 and --jobs 2, but cohorts on several devices are trained one after another; leave --jobs out.",
    ),
    "many devices": (
        (*RUN, "--devices", "33"),
        "--devices is 33, but a batch of 'digits-quickstart-teacher' has 64 images, and each device takes at least 2; "
        "ask for fewer devices, or larger batches.",
    ),
    "no jobs": ((*RUN, "--jobs", "-2"), "--jobs is '-2'; expected a whole number ≥ 1, or auto."),
    "views": ((*RUN, "--views", "x"), '--views is \'x\'; expected "shared", "per-seed", or a whole number ≥ 1.'),
    "no views": ((*RUN, "--views", "0"), '--views is \'0\'; expected "shared", "per-seed", or a whole number ≥ 1.'),
    "auto views": ((*RUN, "--views", "auto"), '--views is \'auto\'; expected "shared", "per-seed", or a whole number'),
    "device": ((*RUN, "--device", "mps"), "--device is 'mps', which is not here; this machine has: cpu"),
    "classes": (
        ("run", "mine.py:seven"),
        "The student of 'seven' answers 7 classes but 'digits' has 10; build it with classes=10.",
    ),
    "teacher's classes": (
        ("run", "mine.py:eleven"),
        "The student of 'eleven' answers 11 classes but 'digits' has 10; build it with classes=10.",
    ),
    "a later stage's glob": (
        ("run", "mine.py:wrong_glob"),
        "no parameters match 'student.fcc.*': did you mean 'student.",
    ),
    "a glob, shown": (("show", "mine.py:wrong_glob"), "no parameters match 'student.fcc.*': did you mean 'student."),
    "a tap": (("run", "mine.py:wrong_tap"), "tap 'fc9', but Chain has no module 'fc9'"),
    "at least": (
        ("run", "mine.py:taught", "--teacher-at-least", "95"),
        "--teacher-at-least is 95; expected a fraction from 0 to 1, such as 0.95.",
    ),
    "at least, no number": (("run", "mine.py:taught", "--teacher-at-least", "nan"), "--teacher-at-least is nan; "),
    "runs is a file": (
        ("run", "mine.py:right", "--runs-dir", "a_file"),
        "a_file cannot be a folder: a file stands in the way; name another place.",
    ),
    "runs under a file": (
        ("run", "mine.py:right", "--runs-dir", "a_file/runs"),
        "a_file/runs cannot be a folder: a file stands in the way; name another place.",
    ),
    "runs where none can be": (
        ("run", "mine.py:right", "--runs-dir", "/proc/runs"),
        "/proc/runs cannot be made (No such file or directory); name a place that can be written.",
    ),
    "store": ((*RUN, "--store", "10"), "--store is '10'; expected a size such as 10GiB or 500MiB, or off."),
    "nothing of the stores": (
        ("cache",),
        "Nothing was asked of the stores; write `potstill cache RECIPE`, --list, or ",
    ),
    "two things of the stores": (
        ("cache", "--list", "--drop", "x"),
        "--list and --drop were both given; one shows the stores, the other removes one: give either.",
    ),
    "no store of this key": (("cache", "--drop", "x"), "No store in runs/store has the key 'x'; there are no stores."),
    "a store, off": (("cache", "mine.py:taught", "--store", "off"), "--store is 'off', so there is nothing to fill; "),
    "a store, two devices": (
        ("cache", "mine.py:taught", "--devices", "2"),
        "--devices is 2, but stores are filled and read by one process; leave it out.",
    ),
    "a recipe to fill": (("cache", "digits:quickstrt"), "There is no recipe 'digits:quickstrt'; did you mean "),
    "a tap, ahead": (("cache", "mine.py:wrong_tap"), "tap 'fc9', but Chain has no module 'fc9'"),
    "nothing to report": (("report",), "No runs were named; give a sweep file such as runs/mnist-hinton.sweep.json, "),
    "report of what is not there": (("report", "none"), "none does not exist; name a sweep file, a run folder, or a "),
    "report of an empty folder": (("report", "empty"), "empty holds neither a sweep file nor a run folder; name the "),
    "a pair that is not there": (("compare", "none", "empty"), "none does not exist; name two run folders."),
    "a pair of no runs": (("compare", "empty", "empty"), "empty is not a run folder: it holds no readable run.json; "),
    "no difference": (("plan", "--difference", "0"), "--difference is 0; expected percentage points, above 0 and "),
    "no power": (("plan", "--difference", "1", "--power", "80"), "--power is 80; expected a fraction between 0 and 1"),
    "no spread": (("plan", "--difference", "1", "--spread", "0"), "--spread is 0; expected percentage points, above "),
    "no plan without runs": (
        ("plan", "--difference", "1"),
        "No runs were named and there is no folder runs; name sweeps or runs, or give --spread.",
    ),
    "runs and a spread": (
        ("plan", "--difference", "1", "--spread", "1", "empty"),
        "--spread was given beside runs; give either, for the runs have a spread of their own.",
    ),
    "a plan of an empty folder": (
        ("plan", "--difference", "1", "empty"),
        "empty holds neither a sweep file nor a run ",
    ),
    "report of a file": (("report", "a_file"), "a_file is not a readable sweep file; name a *.sweep.json file, "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_leaves_nothing_behind(
    mistake: str, place: Path, capsys: pytest.CaptureFixture[str]
):
    words, sentence = MISTAKES[mistake]
    if mistake == "device" and sys.platform == "darwin":
        pytest.skip("this device is here")
    assert sentence in refused(capsys, words)
    assert not (place / "runs").exists()
    assert (place / "a_file").read_text() == ""


def with_alpha() -> list[str]:
    return [name for name in recipes.names() if "alpha" in inspect.signature(recipes.find(name)).parameters]


@pytest.mark.parametrize("alpha", ["1.5", "-0.1", "nan"])
@pytest.mark.parametrize("name", with_alpha())
def test_a_share_outside_of_0_to_1_is_refused(name: str, alpha: str, place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", name, "--alpha", alpha])
    assert sentence == f"--alpha is {alpha}; expected a share of the soft loss from 0 to 1."


def test_some_recipes_share_two_losses():
    assert {"digits:quickstart", "mnist:hinton"} <= set(with_alpha())


def test_an_unknown_flag_is_told_in_the_parsers_box(place: Path, capsys: pytest.CaptureFixture[str]):
    told = boxed(capsys, [*RUN, "--temprature", "2"])
    assert "Unrecognized options: --temprature" in told
    assert "Perhaps you meant: --temperature FLOAT" in told
    assert "invalid choice 'tpu' for argument '--device'" in boxed(capsys, [*RUN, "--device", "tpu"])
    assert "Unrecognized options: --jsn" in boxed(capsys, ["list", "--jsn"])
    assert "--hidden" in boxed(capsys, ["run", "mine.py:right", "--hidden", "many"])
    assert not (place / "runs").exists()


def test_absent_data_without_a_network_says_where_it_looked(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", "mine.py:absent"])
    assert f"MNIST is not in {place / 'empty' / 'MNIST'} and could not be downloaded" in sentence
    assert "set POTSTILL_DATA to a folder that holds MNIST/, or run once with a network." in sentence


def test_a_teacher_at_chance_teaches_nobody(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", "mine.py:at_chance"], status=1)
    assert re.match(
        r"1 of 1 runs failed: x \(seed 0\): The teacher is at chance "
        r"\(\d+\.\d\d% on 1,197 images, guessing gives 10\.28%\); check ",
        sentence,
    )
    assert [path.parent.name[:9] for path in place.glob("runs/*/*.json*")].count("untrained") > 0
    assert not list(place.glob("runs/x-*/*.json*"))


def test_a_teacher_below_what_was_asked_for_teaches_nobody(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", "mine.py:taught", "--teacher-at-least", "0.999"], status=1)
    assert re.search(r": The teacher reaches \d\d\.\d\d% on 1,197 images, below the 99\.90% asked for with ", sentence)
    assert main(["run", "mine.py:taught", "--teacher-at-least", "0.5"]) == 0
    assert re.search(r"^teacher: \d\d\.\d\d% on 1,197 images$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_a_newer_version_is_left_alone(finished: bool, place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "mine.py:right"]) == 0
    (folder,) = place.glob("runs/right-*")
    written = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**written, "format": 99, "version": "9.9"}))
    if not finished:
        (folder / "result.json").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    sentence = f"runs/{folder.name}/run.json was written by Potstill 9.9, which is newer than this one; update Potstill"
    assert sentence in refused(capsys, ["run", "mine.py:right"])
    assert sentence in refused(capsys, ["show", "mine.py:right"])
    assert sentence.removeprefix("runs/") in refused(capsys, ["report", "runs"])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
