"""The command line: what a person sees, most of all when something is wrong."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from potstill import __version__, recipes
from potstill.cli import main
from potstill.commands import Flags

MINE = '''
"""Recipes that are wrong, each in a way of its own, and some that are right."""

from potstill import Arm, Data, Network, Optimizer, Run, Stage, Sweep, result_of
from potstill.methods import KD, Labels


def _run(name, *terms, model="digits_mlp", classes=10, data="digits", rate=0.1, teacher=None):
    stage = Stage(terms=terms or (Labels(),), epochs=1, optimizer=Optimizer(learning_rate=rate))
    student = Network(model, classes=classes, channels=1)
    return Run(name=name, student=student, data=Data(name=data), stages=(stage,), teacher=teacher, precision="fp32")


def right(hidden=32):
    """One run.

    Args:
        hidden: Nothing at all.
    """
    return _run("right")

def taught(): return _run("taught", KD(), teacher=result_of(_run("teacher", rate=0.5)))
def wrong_model(): return _run("x", KD(), model="digits_cnn", teacher=result_of(_run("teacher")))
def wrong_module(): return _run("x", model="no.such:network")
def wrong_data(): return _run("x", data="digit")
def wrong_method():
    from potstill.methods import KDD
    return _run("x", KDD())
def wrong_attribute():
    from potstill import methods
    return _run("x", methods.FitNet())
def wrong_answer(): return {"epochs": 3}
def cold(temperature: float = 4.0): return _run("x", KD(temperature=temperature), teacher=result_of(_run("teacher")))
def negative(): return _run("x", Labels(weight=-1))
def untaught(): return _run("x", KD())
def at_chance(): return _run("x", KD(), teacher=result_of(_run("untrained", rate=1e-12)))
def seven(): return _run("seven", KD(), classes=7, teacher=result_of(_run("teacher")))
def eleven(): return _run("x", KD(), teacher=result_of(_run("eleven", classes=11)))
def absent(): return _run("x", data="mnist", model="mnist_mlp")
def clash(seed: int = 3): return _run("x")
def diverges(): return [_run("good"), _run("bad", rate=1e30)]
def orphans():
    bad = result_of(_run("bad", rate=1e30))
    return [_run("good", KD(), teacher=result_of(_run("teacher", rate=0.5))), _run("orphan", KD(), teacher=bad)]
'''


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
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "imports.py").write_text("import no_such_module\n\ndef idea(): pass\n")
    (tmp_path / "syntax.py").write_text("def idea(:\n    pass\n")
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "random.py").write_text("def idea(): pass\n")
    (tmp_path / "a_file").write_text("")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], words: Sequence[str], status: int = 2) -> str:
    """The sentence that a command ends with."""
    assert main(words) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("potstill: ")
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.removeprefix("potstill: ").strip()


def boxed(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """What the parser's box says, as one line."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    return flat(capsys.readouterr().err)


def flat(text: str) -> str:
    """Text without frames and line breaks."""
    return re.sub(r"[\s│╭╮╰╯─|]+", " ", text)


RUN = ("run", "digits:quickstart")

MISTAKES: dict[str, tuple[Sequence[str], str]] = {
    "verb": (("rn",), "There is no verb 'rn'; did you mean 'run'?"),
    "far verb": (("train",), "There is no verb 'train'; expected one of run, show, list, report."),
    "no recipe": (("run",), "No recipe was named; write `potstill run RECIPE`, with one of digits:quickstart, "),
    "no recipe, a flag": (("show", "--seed", "1"), "No recipe was named; write `potstill show RECIPE`, with one of "),
    "recipe": (("run", "digits:quickstrt"), "There is no recipe 'digits:quickstrt'; did you mean 'digits:quickstart'?"),
    "far recipe": (("show", "zzz"), "There is no recipe 'zzz'; expected one of digits:quickstart, "),
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
    "method": (("run", "mine.py:wrong_method"), "mine.py failed in line 27 (ImportError: cannot import name 'KDD' "),
    "attribute": (("run", "mine.py:wrong_attribute"), "module 'potstill.methods' has no attribute 'FitNet'"),
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
    "nothing to report": (("report",), "No runs were named; give a sweep file such as runs/mnist-hinton.sweep.json, "),
    "report of what is not there": (("report", "none"), "none does not exist; name a sweep file, a run folder, or a "),
    "report of an empty folder": (("report", "empty"), "empty holds neither a sweep file nor a run folder; name the "),
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
    sentence = refused(capsys, ["run", "mine.py:at_chance"])
    assert re.match(
        r"The teacher is at chance \(\d+\.\d\d% on 1,197 images, guessing gives 10\.28%\); check ", sentence
    )
    assert [path.parent.name[:9] for path in place.glob("runs/*/*.json*")].count("untrained") > 0
    assert not list(place.glob("runs/x-*/*.json*"))


def test_a_teacher_below_what_was_asked_for_teaches_nobody(place: Path, capsys: pytest.CaptureFixture[str]):
    sentence = refused(capsys, ["run", "mine.py:taught", "--teacher-at-least", "0.999"])
    assert re.match(r"The teacher reaches \d\d\.\d\d% on 1,197 images, below the 99\.90% asked for with ", sentence)
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


def test_a_finished_run_is_left_alone_and_more_seeds_are_added(place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "mine.py:right"]) == 0
    assert "right (seed 0): 19 steps" in capsys.readouterr().out
    (first,) = place.glob("runs/right-*")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()}
    assert main(["run", "mine.py:right", "--runs-dir", "runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "All 1 runs are finished already; delete their folders in runs to run again.",
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep in `runs`."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "finished.py").write_text(MINE)
    assert main(["run", str(folder / "finished.py:right"), "--runs-dir", str(folder / "runs"), "--quiet"]) == 0
    return folder


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
        ["report", "--help"],
        ["report", "runs", "--save", "saved"],
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
    for verb in ("run RECIPE", "show RECIPE", "list", "report RUNS..."):
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
    assert len(common) == 13
    for parameter, text in {**own, **common}.items():
        assert f"--{parameter.replace('_', '-')}" in told
        assert text.strip() in told


@pytest.mark.parametrize("name", recipes.names())
def test_the_plan_of_every_recipe_is_shown_without_data(name: str, place: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", name, "--seeds", "2"]) == 0
    told = capsys.readouterr().out
    first, _, head = told.splitlines()[:3]
    assert re.fullmatch(rf"{name}: \d+ arms?, seeds (\d+)…(\d+)", first)
    for column in ("arm", "student", "parameters", "mult-adds", "epochs", "steps", "terms"):
        assert column in head.split()
    assert re.search(r"^cohort of \d+, seed \d+ \(.*\): about .*; cpu, fp32, \d+ threads?$", told, re.MULTILINE)
    assert re.search(r"^\d+ runs in runs; about .* in all if nothing runs side by side\.$", told, re.MULTILINE)
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
    assert all(entry["title"].endswith(".") for entry in told["recipes"])
    kd = next(entry for entry in told["methods"] if entry["term"] == "KD")
    assert kd == {
        "name": "kd",
        "term": "KD",
        "knowledge": "response",
        "modes": ["offline"],
        "citation": "Hinton, Vinyals, Dean 2015, arXiv:1503.02531",
    }
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
        assert re.search(rf"^  {name} +\S.*\.$", told, re.MULTILINE)
    assert re.search(r"^  kd +response, offline: Hinton", told, re.MULTILINE)
    assert "Digits (UCI, scikit-learn): 1,197 + 600 images of 1 × 8 × 8, 10 classes" in told


def test_a_report_is_written_where_it_was_asked_for(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, saved = tmp_path / "out", tmp_path / "saved"
    assert main(["report", str(finished / "runs"), "--out", str(out), "--save", str(saved)]) == 0
    assert capsys.readouterr().out == f"{out / 'report.html'}\n"
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.md"]
    assert sorted(path.name for path in saved.iterdir()) == ["finished.py-right.json", "finished.py-right.md"]


def test_common_flags_change_the_students_and_no_teacher():
    from potstill.commands import planned

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
