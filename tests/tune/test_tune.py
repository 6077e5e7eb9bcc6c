"""`potstill tune`: trials are ordinary runs, kills lose nothing, processes share them, the test split is unread."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
from stopping import SECONDS, Halts, ended, meanwhile
from stopping import halts as halts

from potstill import UserError, fingerprint, record
from potstill.cli import main
from potstill.cohort import Conditions, train
from potstill.display import Silent
from potstill.machine import Machine
from potstill.recipes import find
from potstill.tune.ranges import Span
from potstill.tune.study import Study, pruner

RECIPES = '''
"""Small images of four classes, and a term that can halt a training or tell its steps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from potstill import Arm, Data, Network, Optimizer, Run, Stage, Sweep, result_of
from potstill.methods import KD, Labels
from potstill.term import Knowledge


@dataclass(frozen=True, kw_only=True)
class Halting(Labels):
    """Labels; tells each step, and at step 9 waits, if the test wants it to."""

    knowledge: ClassVar[Knowledge] = "label"

    def loss(self, batch, student, teacher, learned, progress):
        if "STEPS" in os.environ and student.logits.requires_grad:
            with open(os.environ["STEPS"], "a") as file:
                file.write(f"{progress.step}\\n")
        if progress.step == 9 and "HALT_AT" in os.environ and not os.path.exists(os.environ["HALT_AT"] + ".off"):
            with open(os.environ["HALT_AT"] + ".halted", "w") as pipe:
                pipe.write(f"{os.getpid()}\\n")
            pipe = os.open(os.environ["HALT_AT"] + ".go", os.O_RDONLY)
            os.read(pipe, 1)  # One byte for each that waits.
            os.close(pipe)
        return super().loss(batch, student, teacher, learned, progress)


def _images(count, seed, shuffled=False):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    prototypes = np.random.default_rng(5).normal(size=(4, 1, 8, 8))
    images = (prototypes[labels] + generator.normal(size=(count, 1, 8, 8), scale=2)).astype(np.float32)
    return images, generator.permutation(labels) if shuffled else labels


def _run(name, *terms, rate=0.05, teacher=None, validation=0.25, shuffled=False, epochs=4):
    arrays = (*_images(160, 1), *_images(40, 2, shuffled))
    return Run(
        name=name,
        student=Network("digits_mlp", classes=4, channels=1),
        data=Data.given(arrays, name="four", validation=validation),
        stages=(Stage(terms=terms, epochs=epochs, optimizer=Optimizer(learning_rate=rate)),),
        teacher=teacher,
        batch_size=32,
        precision="fp32",
    )


def plain(rate: float = 0.05, smoothing: float = 0.0):
    """One arm."""
    return _run("plain", Halting(smoothing=smoothing), rate=rate)


def shuffled(rate: float = 0.05, smoothing: float = 0.0):
    """The same, but for the labels of the test split."""
    return _run("plain", Halting(smoothing=smoothing), rate=rate, shuffled=True)


def needed(rate: float, width: int = 3, switch: bool = False):
    """Its rate must be given."""
    return _run("needed", Labels(), rate=rate * (2 if switch else 1))


def blind(rate: float = 0.05):
    """No validation images."""
    return _run("blind", Labels(), rate=rate, validation=0)


def arms(rate: float = 0.05, alpha: float = 0.5):
    """Two arms that change with both, and one with neither."""
    teacher = result_of(_run("teacher", Labels(), epochs=8))
    both = Labels(weight=1 - alpha), KD(weight=alpha)
    cold = Labels(weight=1 - alpha), KD(weight=alpha, temperature=1)
    return Sweep(
        arms=(
            Arm(name="labels", run=_run("labels", Labels())),
            Arm(name="fast", run=_run("fast", Labels(), rate=rate)),
            Arm(name="both", run=_run("both", *both, rate=rate, teacher=teacher)),
            Arm(name="cold", run=_run("cold", *cold, rate=rate, teacher=teacher)),
        )
    )
'''

OVER = ("--over", "rate=1e-3:1:log", "--over", "smoothing=0:.5")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "tuned.py"
    path.write_text(RECIPES)
    return str(path)


@pytest.fixture
def go(halts: Halts) -> Generator[int, None, None]:
    """Every byte that is written into it lets one process go on that waits."""
    pipe = os.open(f"{os.environ['HALT_AT']}.go", os.O_RDWR)
    yield pipe
    os.close(pipe)


def study(runs_dir: Path, recipe: str = "plain") -> dict[str, Any]:
    """The only study that was written."""
    (found,) = json.loads((runs_dir / f"tuned.py-{recipe}.tune.json").read_text())["studies"]
    return found


def trials(runs_dir: Path, recipe: str = "plain") -> list[dict[str, Any]]:
    """What must not depend on kills: all that a trial is but its folders."""
    return [{k: v for k, v in trial.items() if k != "runs"} for trial in study(runs_dir, recipe)["trials"]]


# The child's trainings write a checkpoint at every step.
OFTEN = """
import sys
from dataclasses import replace
from potstill import cli
from potstill.verbs import tune
whole = tune.conditions
tune.conditions = lambda *given: replace(whole(*given), checkpoint_seconds=0)
sys.exit(cli.main(sys.argv[1:]))
"""


@contextmanager
def started(words: Sequence[str]) -> Generator["subprocess.Popen[str]", None, None]:
    """The command in a process of its own, which does not outlive the test."""
    with subprocess.Popen([sys.executable, "-c", OFTEN, "tune", *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_kill_loses_no_finished_trial_and_the_one_under_way_goes_on_from_its_checkpoint(
    file: str, tmp_path: Path, halts: Halts, go: int, monkeypatch: pytest.MonkeyPatch
):
    words = [f"{file}:plain", *OVER, "--trials", "3", "--quiet"]
    runs = tmp_path / "runs"
    with started([*words, "--runs-dir", str(runs)]) as process:
        os.close(*halts.wait(1))
        os.write(go, b".")  # The first trial is let go on, the second is killed.
        (second,) = halts.wait(1)
        process.kill()
        assert ended(second)
    assert [trial["status"] for trial in trials(runs)] == ["finished"]
    monkeypatch.delenv("HALT_AT")
    monkeypatch.setenv("STEPS", str(tmp_path / "steps"))
    assert main(["tune", *words, "--runs-dir", str(runs)]) == 0
    steps = [int(line) for line in (tmp_path / "steps").read_text().split()]
    assert steps == [*range(9, 16), *range(16)]  # The rest of the second trial, and the third.
    monkeypatch.delenv("STEPS")
    assert main(["tune", *words, "--runs-dir", str(tmp_path / "whole")]) == 0
    assert trials(runs) == trials(tmp_path / "whole")
    assert len(trials(runs)) == 3
    assert not [path for path in (runs / ".tune").iterdir() if len(path.name) == 32]  # Nobody is at work any more.


@pytest.mark.slow
def test_two_processes_work_on_one_study_at_the_same_time(
    file: str, tmp_path: Path, halts: Halts, go: int, capsys: pytest.CaptureFixture[str]
):
    def let_go() -> None:
        for handle in halts.wait(2):  # Each is in a trial of its own.
            os.close(handle)
        Path(f"{os.environ['HALT_AT']}.off").touch()
        os.write(go, b"..")

    words = [f"{file}:plain", *OVER, "--trials", "7", "--pruner", "none", "--runs-dir", str(tmp_path / "runs")]
    with started(words) as other:
        with meanwhile(let_go):
            assert main(["tune", *words]) == 0
        said = [capsys.readouterr().out, other.communicate(timeout=SECONDS)[0]]
    assert other.returncode == 0
    worked = [[int(number) for number in re.findall(r"^trial (\d+): ", text, re.MULTILINE)] for text in said]
    assert all(worked)
    assert sorted(itertools.chain(*worked)) == [1, 2, 3, 4, 5, 6, 7]
    found = study(tmp_path / "runs")
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 7
    drawn = [tuple(trial["values"].values()) for trial in found["trials"]]
    assert len(set(drawn)) == 7
    assert len(list((tmp_path / "runs").glob("plain-*/result.json"))) == 7


def test_a_run_that_another_process_is_at_is_waited_for(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = tmp_path / "runs"
    run = find(f"{file}:plain")()
    folder = record.folder_of(runs, run.name, fingerprint(run))
    record.make_folder(folder)
    told: list[str] = []
    holding = ExitStack()
    holding.enter_context(record.held(folder))  # A second file, even of this process, cannot hold it.
    reading, writing = os.pipe()
    with os.fdopen(reading) as out, os.fdopen(writing, "w") as into:
        monkeypatch.setattr(sys, "stdout", into)

        def let_go() -> None:
            told.append(out.readline())
            holding.close()

        with meanwhile(let_go):
            assert main(["tune", f"{file}:plain", *OVER, "--trials", "1", "--runs-dir", str(runs)]) == 0
        into.flush()
        told.append(out.readline())
    assert told[0] == f"{folder.name} is being trained by another process; waiting for it.\n"
    assert told[1].startswith("trial 1: ")


def test_what_the_test_split_holds_changes_nothing_that_is_told(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = {}
    for recipe in ("plain", "shuffled"):
        runs = tmp_path / recipe
        assert main(["tune", f"{file}:{recipe}", *OVER, "--trials", "5", "--runs-dir", str(runs)]) == 0
        said[recipe] = capsys.readouterr().out.replace(str(tmp_path), "").replace(recipe, "plain")
    assert said["plain"] == said["shuffled"]
    assert "test" not in said["plain"]
    assert trials(tmp_path / "plain", "plain") == trials(tmp_path / "shuffled", "shuffled")
    written = (tmp_path / "plain" / "tuned.py-plain.tune.json").read_text()
    assert "test" not in written.replace(str(tmp_path), "")
    results = [json.loads(next((tmp_path / r).glob("plain-*/result.json")).read_text()) for r in said]
    assert results[0]["test_accuracy"] - results[1]["test_accuracy"] > 0.2  # The splits do differ.


def test_what_is_told_and_what_is_given_up(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = tmp_path / "runs"
    words = ["tune", f"{file}:plain", "--over", "rate=1e-6:1:log", "--seed", "4", "--runs-dir", str(runs)]
    assert main([*words, "--trials", "12"]) == 0
    out = capsys.readouterr().out
    found = study(runs)
    states = [trial["status"] for trial in found["trials"]]
    assert set(states) == {"finished", "pruned"}
    lost = found["trials"][states.index("pruned")]
    folder = runs / lost["runs"][0]
    assert f"trial {lost['number'] + 1}: given up after {len(lost['epochs'])} epoch" in out
    assert (folder / "checkpoint.safetensors").exists()
    assert not (folder / "result.json").exists()
    best = max((t for t in found["trials"] if t["accuracy"] is not None), key=lambda t: (t["accuracy"], -t["number"]))
    assert best["number"] == found["best"]
    ready = f"potstill run {file}:plain --rate {best['values']['rate']} --runs-dir {runs}"
    assert f"{found['ready']} --runs-dir {runs}" == ready
    assert "--runs-dir" not in found["command"] + found["ready"]
    assert out.splitlines()[-2:] == [f"potstill report {runs}/tuned.py-plain.tune.json", ready]
    assert best["accuracy"] == best["epochs"][-1]
    assert found["importances"] == {"rate": 1.0}
    # More trials are more trials; as many as there are is nothing to do.
    assert main([*words, "--trials", "12"]) == 0
    assert "trial 1" not in capsys.readouterr().out.replace("trials", "")
    assert main([*words, "--trials", "13", "--quiet"]) == 0
    assert trials(runs)[:12] == [{k: v for k, v in trial.items() if k != "runs"} for trial in found["trials"]]
    # What was given up goes on, where it is run by itself; and the best run is there already.
    rate = str(lost["values"]["rate"])
    assert main(["run", f"{file}:plain", "--rate", rate, "--seed", "4", "--runs-dir", str(runs), "--quiet"]) == 0
    assert (folder / "result.json").exists()
    capsys.readouterr()
    assert main([*ready.split()[1:], "--seed", "4"]) == 0
    assert "All 1 runs are finished; " in capsys.readouterr().out


def test_seeds_are_averaged_and_teachers_trained_first(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = tmp_path / "runs"
    words = ["tune", f"{file}:arms", "--over", "alpha=0.2,0.5", "--arm", "both", "--seeds", "2"]
    assert main([*words, "--trials", "3", "--runs-dir", str(runs)]) == 0
    found = study(runs, "arms")
    assert found["trials"][0]["values"] == {"alpha": 0.5}
    for trial in found["trials"]:
        ends = [record.Record(runs / name).metrics[-1]["validation"]["accuracy"] for name in trial["runs"]]
        assert trial["accuracy"] == pytest.approx(sum(ends) / 2)
        assert len(trial["epochs"]) == 8
    # Three trials of two values: one of them found its runs there already.
    assert len(list(runs.glob("both-*"))) == 4
    assert len(list(runs.glob("teacher-*/result.json"))) == 1
    assert "potstill run" in capsys.readouterr().out


def test_a_flag_that_must_be_given_is_drawn(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = tmp_path / "runs"
    words = ["--over", "rate=.01:.1", "--over", "switch=true,false", "--trials", "2", "--no-switch", "--epochs", "1"]
    assert main(["tune", f"{file}:needed", *words, "--runs-dir", str(runs)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    rest = rf"--epochs 1 --rate 0\.\d+ --(no-)?switch --runs-dir {runs}"
    assert re.fullmatch(rf"potstill run {re.escape(file)}:needed {rest}", last)


def test_one_trial_is_one(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["tune", f"{file}:plain", "--over", "rate=.01:.1", "--trials", "1", "--runs-dir", str(tmp_path / "runs")]
    assert main(words) == 0
    assert "tuned.py:plain, plain: 1 trial finished." in capsys.readouterr().out


def test_trials_that_diverge_are_no_answer(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["tune", f"{file}:plain", "--over", "rate=1e28,1e30", "--trials", "2", "--runs-dir", str(tmp_path / "runs")]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.err == "potstill: None of 2 trials finished; try other ranges.\n"
    assert "diverged after" in captured.out
    assert {trial["status"] for trial in trials(tmp_path / "runs")} == {"diverged"}


MISTAKES = {
    "blind --over rate=.1:1": (
        "The arm 'blind' of tuned.py:blind keeps no validation images, and tuning never looks at the test split; give "
        "the data of the recipe a share of the training images, as in Data(name='four', validation=0.1)."
    ),
    "arms --over rate=.1:1 --over alpha=0:1": (
        "2 arms of tuned.py:arms change with rate and alpha; say which with --arm: 'both' or 'cold'."
    ),
    "arms --over rate=.1:1 --arm bth": "tuned.py:arms has no arm 'bth'; did you mean 'both'?",
    "arms --over alpha=0:1 --arm fast": "The arm 'fast' of tuned.py:arms is the same at every alpha; leave it out.",
    "needed --over width=1:4 --rate .1": "No arm of tuned.py:needed changes with width; leave it out.",
    "plain --over rat=.1:1": "--over rat=.1:1: tuned.py:plain has no flag 'rat'; did you mean 'rate'?",
    "plain --over seed=1:9": (
        "--over seed=1:9: --seed says how runs are made, not what they learn; tune one of rate, smoothing, epochs, "
        "views, companion."
    ),
    "plain --over rate=-1:1": "The learning rate is -1; expected a number > 0.",
    "plain": (
        "Nothing is to be tuned; write --over NAME=LOW:HIGH, with one of rate, smoothing, epochs, views, companion."
    ),
    "plain --over rate=.1:1 --trials 0": "--trials is 0; expected a whole number ≥ 1.",
    "plain --over rate=.1:1 --jobs 2": (
        "--jobs or --devices was given, but tune trains one run at a time, on one device; start the same command again "
        "beside this one, and both work on the same trials."
    ),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_told_before_anything_is_made(
    file: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe, *rest = words.split()
    assert main(["tune", f"{file}:{recipe}", *rest, "--runs-dir", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == f"potstill: {MISTAKES[words]}\n"
    assert not (tmp_path / "runs").exists()


def test_a_study_that_cannot_be_opened(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["tune", f"{file}:plain", *OVER, "--runs-dir", str(tmp_path / "runs"), "--study"]
    assert main([*words, "sqlite:////nowhere/at/all.db"]) == 2
    assert re.fullmatch(
        r"potstill: The study sqlite:////nowhere/at/all\.db cannot be opened \(.*unable to open database file\); give "
        r"--study a database that can be, such as sqlite:///tune\.db\.\n",
        capsys.readouterr().err,
    )
    assert main([*words, "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("potstill: The study nonsense cannot be opened (")


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_was_left_goes_on_as_if_it_had_not_been(tmp_path: Path, epoch: int):
    """The second epoch is the last of the first of two stages."""
    runs = tiny.unlike()[:2]
    asked: list[tuple[str, int]] = []

    def leaves(run: Any, epochs: int, validation: Any) -> bool:
        asked.append((run.name, epochs))
        assert 0 <= validation["accuracy"] <= 1
        return run.name != "drops" or epochs < epoch

    conditions = Conditions(runs_dir=tmp_path / "left", environment={"command": "test"}, go_on=leaves)
    stayed, left = train(runs, Machine(), conditions, Silent())
    assert asked.count(("drops", epoch)) == 1
    assert max(asked) == ("two stages", 3)  # After its last epoch a run is not asked.
    assert record.Record(left).status == "unfinished"
    assert len(record.Record(left).metrics) == epoch
    whole = tiny.train_in(tmp_path / "whole", runs)
    assert tiny.told(stayed) == tiny.told(whole[0])
    tiny.train_in(tmp_path / "left", runs)
    assert tiny.told(left) == tiny.told(whole[1])


@pytest.mark.parametrize("name", ["median", "halving"])
def test_nothing_is_given_up_before_there_is_enough_to_compare_with(name: str, tmp_path: Path):
    study = Study(
        f"sqlite:///{tmp_path / 'x.db'}",
        "x",
        ranges=(Span("rate", 0.1, 1.0),),
        start={"rate": 0.5},
        seed=0,
        pruner=pruner(name, 8),
        marks=tmp_path / "marks",
    )
    lengths: list[int] = []
    for number in range(6):
        trial = study.claim(6)
        assert trial is not None
        accuracy, length = 0.9 - number / 10, 0
        while length < 8 and (not length or trial.promising()):
            length += 1
            trial.tell(length, accuracy)
        lengths.append(length)
        if length == 8:
            trial.finish(accuracy)
        else:
            trial.prune()
    study.close()
    assert lengths[:4] == [8] * 4
    assert max(lengths[4:]) < 8


def test_a_study_of_another_question_is_another_study(file: str, tmp_path: Path):
    runs = tmp_path / "runs"
    words = ["tune", f"{file}:plain", "--trials", "1", "--epochs", "1", "--quiet", "--runs-dir", str(runs)]
    for over in ("rate=.1:1", "rate=.1:.9", "rate=.1:1"):
        assert main([*words, "--over", over]) == 0
    found = json.loads((runs / "tuned.py-plain.tune.json").read_text())["studies"]
    assert [one["ranges"][0]["high"] for one in found] == [0.9, 1.0]
    assert len({one["name"] for one in found}) == 2


def test_a_recipe_without_its_file_is_refused_as_ever(tmp_path: Path):
    with pytest.raises(UserError, match=r"^There is no file none\.py; expected path/to/file\.py:function\.$"):
        find("none.py:plain")
