"""What the verbs do when nothing is wrong with what was asked for."""

import inspect
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import quick

from potstill import __version__, recipes
from potstill.cli import main
from potstill.verbs.flags import Flags

from .screen import flat, refused


def test_a_finished_run_is_left_alone_and_more_seeds_are_added(place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "mine.py:right"]) == 0
    assert "right (seed 0): 19 steps" in capsys.readouterr().out
    (first,) = place.glob("runs/right-*")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()}
    assert main(["run", "mine.py:right", "--runs-dir", "runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "All 1 runs are finished; delete their folders in runs to run again.",
        "potstill report runs/mine.py-right.sweep.json",
    ]
    assert main(["run", "mine.py:right", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert "right (seed 1): 19 steps" in out
    assert "seed 0" not in out
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()} == before
    assert len(list(place.glob("runs/right-*/result.json"))) == 2


def test_a_sweep_names_its_recipe_without_the_folders_of_this_machine(place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", str(place / "mine.py:right"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads((place / "runs" / "mine.py-right.sweep.json").read_text())["recipe"] == "mine.py:right"


def test_a_student_that_diverges_is_status_1_and_the_others_finish(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", "mine.py:diverges"], status=1)
    assert sentence == "1 of 2 runs failed: bad (seed 0) diverged."
    told = {path.parent.name[:4]: json.loads(path.read_text()) for path in place.glob("runs/*/result.json")}
    assert told["good"]["status"] == "finished"
    assert told["bad-"]["status"] == "diverged"
    assert refused(capsys, ["run", "mine.py:diverges"], status=1) == sentence


def test_students_of_a_teacher_that_diverged_do_not_begin(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", "mine.py:orphans"], status=1)
    assert sentence == "1 of 2 runs failed: 1 not begun, for the teacher bad diverged."
    assert len(list(place.glob("runs/good-*/result.json"))) == 1
    assert not list(place.glob("runs/orphan-*"))


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_students_of_a_trained_teacher_that_is_refused_fail_alone(
    jobs: str, place: Path, capsys: pytest.CaptureFixture[str]
):
    sentence = refused(capsys, ["run", "mine.py:hopeless", "--jobs", jobs, "--threads", "1"], status=1)
    assert sentence.startswith("1 of 2 runs failed: pupil (seed 0): The teacher is at chance (")
    assert len(list(place.glob("runs/good-*/result.json"))) == 1
    assert not list(place.glob("runs/pupil-*/result.json"))


def process(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "potstill.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_a_process_exits_with_the_status_and_its_piped_output_is_plain(place: Path):
    mistake = process("run", "digits:quickstrt", cwd=place)
    assert (mistake.returncode, mistake.stdout) == (2, "")
    assert mistake.stderr == "potstill: There is no recipe 'digits:quickstrt'; did you mean 'digits:quickstart'?\n"
    # Colours that were asked for elsewhere are no reason for escape codes in a log.
    done = process("run", "mine.py:diverges", cwd=place, TERM="xterm-256color", COLORTERM="truecolor")
    assert done.returncode == 1, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "good, bad (seed 0): 19 steps"
    assert done.stdout.splitlines()[-1] == "potstill report runs/mine.py-diverges.sweep.json"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["run", "digits:quickstart", "--help"],
        ["show", "mnist:hinton", "--help"],
        ["run", "digits:quickstart", "--temprature", "2"],
        ["run", "digits:quickstrt"],
        ["cache", "--help"],
        ["report", "--help"],
        ["analyze", "--help"],
        ["report", "runs", "--save", "saved"],
        ["compare", "--help"],
        ["plan", "--help"],
        ["watch", "--help"],
        ["watch"],
        ["plan", "--difference", "1", "--spread", ".3"],
    ],
    ids=" ".join,
)
def test_what_trains_nothing_does_not_import_torch(words: list[str], finished: Path):
    program = (
        "import sys\n"
        "from potstill.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'lightning_fabric'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=finished
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_top_level_help_names_every_verb(capsys: pytest.CaptureFixture[str]):
    assert main([]) == main(["--help"]) == 0
    told = capsys.readouterr().out
    verbs = (
        "run RECIPE",
        "show RECIPE",
        "list",
        "watch [RUNS...]",
        "report RUNS...",
        "analyze RUNS...",
        "compare RUN RUN",
        "plan [RUNS...]",
    )
    for verb in verbs:
        assert f"\n  {verb} " in told
    assert "Exit status: 0 done, 1 a run failed" in told
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"potstill {__version__}\n"


def documented(docstring: str, head: str) -> dict[str, str]:
    """Names and texts of a docstring's `Args:` or `Attributes:`."""
    _, _, part = inspect.cleandoc(docstring).partition(f"{head}:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", part, re.MULTILINE)
    return {name: flat(text) for name, text in entries}


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize("verb", ["run", "show"])
def test_the_help_of_every_recipe_explains_every_flag(verb: str, name: str, capsys: pytest.CaptureFixture[str]):
    recipe = recipes.find(name)
    with pytest.raises(SystemExit) as end:
        main([verb, name, "--help"])
    assert end.value.code == 0
    told = flat(capsys.readouterr().out)
    own, common = documented(recipe.__doc__ or "", "Args"), documented(Flags.__doc__ or "", "Attributes")
    assert set(own) == set(inspect.signature(recipe).parameters)
    assert len(common) == 19
    for parameter, text in {**own, **common}.items():
        assert f"--{parameter.replace('_', '-')}" in told
        assert text.strip() in told


# The others have larger networks, of which a plan tries a few steps to tell how long they take.
@pytest.mark.parametrize(
    "name", quick.only(["digits:quickstart", "mnist:hinton", "mnist:hinton_grid", "cifar10:mutual"], recipes.names())
)
def test_the_plan_of_every_recipe_is_shown_without_data(name: str, place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", name, "--seeds", "2"]) == 0
    told = capsys.readouterr().out
    first, _, head = told.splitlines()[:3]
    assert re.fullmatch(rf"{name}: \d+ arms?, seeds (\d+)…(\d+)", first)
    for column in ("arm", "student", "parameters", "mult-adds", "epochs", "steps", "terms"):
        assert column in head.split()
    assert re.search(
        r"^cohort of \d+, seed \d+ \(.*\): about .*; cpu, (fp32|bf16), \d+ threads?(, compiled)?, [\d.]+ [KMG]iB$",
        told,
        re.MULTILINE,
    )
    assert re.search(
        r"^\d+ runs in runs; the students' steps take about .* in all, if nothing runs side by side\.$",
        told,
        re.MULTILINE,
    )
    assert not (place / "runs").exists()
    assert not list((place / "empty").iterdir())


def test_the_plan_says_what_is_finished(finished: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", str(finished / "finished.py:right"), "--runs-dir", str(finished / "runs")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("finished.py:right: 1 arm, seed 0\n")
    assert "cohort of 1, seed 0 (right): finished; cpu, fp32, 1 thread" in told


def test_the_list_as_json_holds_what_a_choice_needs(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["recipes", "methods", "models", "data"]
    assert [entry["name"] for entry in told["recipes"]] == list(recipes.names())
    assert all(entry["title"].endswith((".", "?")) for entry in told["recipes"])
    methods = {entry["term"]: entry for entry in told["methods"]}
    assert methods["KD"] == {
        "name": "kd",
        "term": "KD",
        "knowledge": "response",
        "modes": ["offline"],
        "citation": "Hinton, Vinyals, Dean 2015, arXiv:1503.02531",
        "learned": False,
        "taps": {"student": 0, "teacher": 0},
        "needs": ["teacher"],
    }
    assert methods["Labels"]["needs"] == ["labels"]
    crd, exits, second = methods["CRD"], methods["OFA"], methods["MLKD"]
    assert (crd["learned"], crd["taps"], crd["needs"]) == (True, {"student": 1, "teacher": 1}, ["labels", "teacher"])
    assert (exits["learned"], exits["taps"]) == (True, {"student": 3, "teacher": 0})
    assert second["needs"][-1] == "view"
    assert {"resnet8x4", "wrn_40_2", "torchvision:NAME"} <= {entry["name"] for entry in told["models"]}
    cifar = next(entry for entry in told["data"] if entry["name"] == "cifar100")
    assert {key: cifar[key] for key in ("classes", "shape", "train", "test")} == {
        "classes": 100,
        "shape": [3, 32, 32],
        "train": 50_000,
        "test": 10_000,
    }


def test_the_list_for_a_person_has_a_line_for_each(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for name in recipes.names():
        assert re.search(rf"^  {name} +\S.*[.?]$", told, re.MULTILINE)
    assert re.search(r"^  kd +KD, response, offline, taps 0 \+ 0, needs teacher: Hinton", told, re.MULTILINE)
    crd = r"^  crd +CRD, relation, offline, taps 1 \+ 1, learned part, needs labels and teacher: Tian"
    assert re.search(crd, told, re.MULTILINE)
    assert "Digits (UCI, scikit-learn): 1,197 + 600 images of 1 × 8 × 8, 10 classes" in told


def test_a_report_is_written_where_it_was_asked_for(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, saved = tmp_path / "out", tmp_path / "saved"
    assert main(["report", str(finished / "runs"), "--out", str(out), "--save", str(saved)]) == 0
    assert capsys.readouterr().out == f"{out / 'report.html'}\n"
    kinds = ("csv", "html", "md", "tex")
    assert sorted(path.name for path in out.iterdir()) == [f"report.{kind}" for kind in kinds]
    kinds = ("csv", "json", "md", "tex")
    assert sorted(path.name for path in saved.iterdir()) == [f"finished.py-right.{kind}" for kind in kinds]


def test_trained_runs_are_compared_and_planned_by(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What a real training leaves is enough, and what is said agrees with its record."""
    recipe, runs = str(finished / "finished.py:right"), str(tmp_path / "runs")
    shutil.copytree(finished / "runs", runs)
    assert main(["run", recipe, "--runs-dir", runs, "--seeds", "2", "--quiet"]) == 0
    folders = sorted(
        (tmp_path / "runs").glob("right-*"), key=lambda f: json.loads((f / "run.json").read_text())["run"]["seed"]
    )
    accuracies = [json.loads((folder / "result.json").read_text())["test_accuracy"] for folder in folders]
    assert main(["compare", *map(str, folders)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["run", "test", "accuracy,", "%", "right", "right", "alone"]
    for seed, (line, accuracy) in enumerate(zip(told[1:3], accuracies, strict=True)):
        assert re.match(rf"right, seed {seed} +{100 * accuracy:.2f} +{round(600 * accuracy)} +\d+$", line.rstrip())
    assert re.match(r"Of 600 images both are right on \d+ and neither on \d+\. First minus second: ", told[3])
    assert re.match(r"(On these|These) 600 images .* that takes several seeds of each\.$", told[-1])
    assert main(["plan", "--difference", "2", runs]) == 0
    told = capsys.readouterr().out.splitlines()
    spread = f"{100 * statistics.stdev(accuracies):.2f}".removeprefix("0")
    assert told[1].split()[:4] == ["finished.py:right", "right", "2", spread]
    assert re.match(
        r"To show a difference of 2 points with 80 % power, a paired t test at 5 % needs \d+ seeds of ", told[-1]
    )


def test_a_table_in_a_pipe_is_plain_and_not_broken(place: Path):
    done = process("plan", "--difference", ".3", "--spread", ".23", cwd=place, FORCE_COLOR="1", COLUMNS="30")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "arm    spread, points  of differences  seeds alone\n"
        "given             .23      .33 (√2 ×)           12\n"
        "To show a difference of 0.3 points with 80 % power, a paired t test at 5 % needs 12 seeds of each arm: "
        "differences spread by .33 points if their seeds have nothing in common.\n"
    )


def test_common_flags_change_the_students_and_no_teacher():
    from potstill.verbs.command import planned

    plain = planned(recipes.find("digits:quickstart"), {}, Flags())
    flags = Flags(seeds=2, epochs=5, views="per-seed", precision="bf16", deterministic=True)
    turned = planned(recipes.find("digits:quickstart"), {}, flags)
    assert turned.seeds == plain.seeds[:2]
    assert turned.teachers == plain.teachers
    for arm in turned.arms:
        assert (arm.run.epochs, arm.run.data.sharing, arm.run.precision) == (5, "per-seed", "bf16")
        assert arm.run.deterministic
        assert arm.run.teacher.run == plain.teachers[0].run
    assert planned(recipes.find("digits:quickstart"), {}, Flags(seed=9)).seeds == (9,)
    few = planned(recipes.find("digits:quickstart"), {}, Flags(views="7"))
    assert {(arm.run.data.views, arm.run.data.sharing) for arm in few.arms} == {(7, "shared")}
