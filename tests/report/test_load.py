import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from potstill import record
from potstill.errors import UserError
from potstill.live.following import Following
from potstill.record import FORMAT
from potstill.report import tuned, write
from potstill.report.load import gather
from potstill.report.rows import rows

from .folders import Runs, fingerprint, hinton
from .folders import write as write_file


def test_a_path_that_does_not_exist(tmp_path: Path):
    path = tmp_path / "nowhere"
    with pytest.raises(UserError) as caught:
        write([path], tmp_path / "out")
    assert str(caught.value) == f"{path} does not exist; name a sweep file, a run folder, or a folder of runs."


def test_a_folder_with_nothing_in_it(tmp_path: Path):
    with pytest.raises(UserError, match="holds neither a sweep file nor a run folder; name the folder that your runs"):
        write([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_may_have_no_name(runs: Runs, monkeypatch: pytest.MonkeyPatch):
    runs.run("hard", 1, 0.9)
    monkeypatch.chdir(runs.folder)
    assert len(gather([Path(".")]).groups) == 1
    assert tuned.gather([Path("/")], ".sweep.json")[1] == {}


def test_a_file_that_is_no_sweep(tmp_path: Path):
    path = tmp_path / "README.md"
    path.write_text("{}")
    with pytest.raises(UserError, match=r"README\.md is not a readable sweep file; name a \*\.sweep\.json file"):
        gather([path])


def test_a_sweep_of_a_newer_version(runs: Runs):
    runs.run("hard", 1, 0.9)
    file = runs.sweep(format=FORMAT + 1, version="9.0")
    with pytest.raises(UserError, match=r"was written by Potstill 9\.0, which is newer than this one; update"):
        gather([file])


def test_a_damaged_sweep(runs: Runs):
    with pytest.raises(
        UserError, match="is damaged: its runs do not each name an arm, a seed, a fingerprint and a fold"
    ):
        gather([runs.sweep(runs=[{"arm": "hard"}])])


@pytest.mark.parametrize("margin", [-0.01, 1.0, "0.01", True, None, float("nan")])
def test_a_margin_that_is_no_fraction(runs: Runs, margin: object):
    runs.run("hard", 1, 0.9)
    file = runs.sweep(margin=margin)
    with pytest.raises(UserError) as caught:
        gather([file])
    assert str(caught.value) == f"{file} is damaged: its margin is {margin!r}, not a fraction from 0 to below 1."


def test_nothing_finished(runs: Runs):
    (runs.run("hard", 1, 0.9) / "result.json").unlink()
    with pytest.raises(UserError) as caught:
        gather([runs.folder])
    name = next(path.name for path in runs.folder.iterdir())
    assert str(caught.value) == (
        f"There is no finished run to report in {runs.folder} (other runs: {name}: {name} is not finished: it has 10 "
        "epochs so far; run it again to continue); finish a run first, or name another folder."
    )


def test_every_run_that_cannot_be_counted_is_named(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9)
    (runs.run("unfinished", 2, 0.9) / "result.json").unlink()
    (runs.run("cut", 3, 0.9) / "result.json").write_text('{"status": "fini')
    nothing = dict.fromkeys(("test_accuracy", "test_nll", "ece"))
    runs.run("diverged", 4, 0.9, status="diverged", reason="the loss was NaN at step 12", count=1, **nothing)
    (runs.run("no specification", 5, 0.9) / "run.json").write_text("")
    newer = runs.run("newer", 6, 0.9) / "run.json"
    write_file(newer, json.loads(newer.read_text()) | {"format": FORMAT + 1, "version": "9.0"})
    metrics = runs.run("metrics", 7, 0.9) / "metrics.jsonl"
    metrics.write_text("{oh\n" + metrics.read_text())
    runs.run("not a number", 8, 0.9, ece="low")
    runs.named.append(runs.named[0] | {"arm": "not started", "fingerprint": "f" * 64, "folder": "gone-ffffffffffff"})
    swapped = runs.named[0] | {"arm": "swapped", "fingerprint": "e" * 64}
    runs.named.append(swapped)
    page = write([runs.sweep()], tmp_path / "out").read_text()
    left_out = {notice.name: notice.sentence for notice in gather([runs.folder]).groups[0].left_out}
    expected = {
        "unfinished, seed 2": "is not finished: it has 10 epochs so far; run it again to continue.",
        "cut, seed 3": "is not finished: its result.json was cut short; run it again to continue.",
        "diverged, seed 4": "diverged after 1 epoch: the loss was NaN at step 12.",
        "no specification, seed 5": "is not a run folder: it holds no readable run.json",
        "newer, seed 6": "was written by Potstill 9.0, which is newer than this one",
        "metrics, seed 7": "holds a line that is not JSON; the folder was damaged",
        "not a number, seed 8": "result.json is damaged: ece is 'low', not a finite number.",
        "not started, seed 1": "It has not been started: there is no folder of its fingerprint.",
        "swapped, seed 1": "holds another run than the one the sweep names.",
    }
    assert left_out.keys() == expected.keys()
    for name, sentence in expected.items():
        assert sentence in left_out[name]
        assert f"<strong>{name}</strong>" in page
    assert "9 runs are not counted" in page
    assert str(tmp_path) not in page


def test_foreign_folders_and_broken_sweeps_beside_good_runs(runs: Runs):
    file = hinton(runs)
    (runs.folder / "photographs").mkdir()
    (runs.folder / "old.sweep.json").write_text("[")
    report = gather([runs.folder])
    assert [group.recipe for group in report.groups] == ["mnist:hinton"]
    assert len(report.groups[0].entries) == 21
    assert [notice.name for notice in report.left_out] == ["old.sweep.json"]
    assert gather([file, runs.folder, file]) == report


def test_a_renamed_folder_is_found_by_its_fingerprint(runs: Runs):
    folder = runs.run("hard", 1, 0.9)
    file = runs.sweep()
    folder.rename(folder.with_name(f"my-favourite-{folder.name.rsplit('-')[-1]}"))
    assert gather([file]).groups[0].entries[0].record.folder.name.startswith("my-favourite-")


def test_runs_without_a_sweep_are_arms_by_name(runs: Runs):
    for seed in (2, 1):
        runs.run("hard", seed, 0.9, name="mine")
    runs.run("teacher", 42, 0.99, role="teacher", name="big", teacher=None)
    (group,) = gather([runs.folder]).groups
    assert (group.recipe, group.command) == ("other runs", None)
    assert [(entry.arm, entry.role) for entry in group.entries] == [
        ("big", "teacher"),
        ("mine", "student"),
        ("mine", "student"),
    ]


def test_one_name_for_unlike_runs_is_two_arms(runs: Runs):
    folders = [runs.run("a", seed, 0.9, name="mine", spec={"batch_size": size}) for seed, size in ((1, 64), (1, 32))]
    (group,) = gather(folders).groups
    assert len({entry.arm for entry in group.entries}) == 2
    assert all(entry.arm == f"mine · {entry.record.fingerprint[:6]}" for entry in group.entries)


def test_a_report_beside_runs_is_passed_over_and_a_run_that_lost_its_specification_is_not(runs: Runs, tmp_path: Path):
    folder = runs.run("hard", 1, 0.9)
    write([runs.folder], runs.folder / "report")
    assert gather([runs.folder]).groups[0].left_out == ()
    (folder / "run.json").unlink()
    runs.run("soft", 1, 0.9)
    with record.held(folder):
        (notice,) = gather([runs.folder]).groups[0].left_out
    assert notice.name == folder.name


def test_every_place_counts_once_however_it_is_spelled(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs.run("hard", 1, 0.9)
    file = runs.sweep()
    loose = runs.run("loose", 1, 0.9)
    (runs.folder / "old.sweep.json").write_text("[")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(runs.folder)
    paths = [Path("runs"), runs.folder, Path("link"), Path("runs") / file.name, Path("runs/../runs") / loose.name]
    report = gather(paths)
    assert [(group.recipe, len(group.entries)) for group in report.groups] == [("mnist:hinton", 1), ("other runs", 1)]
    assert [notice.name for notice in report.left_out] == ["old.sweep.json"]
    assert len(Following(paths).look().courses) == 2


def test_runs_of_different_data_are_compared_apart(runs: Runs, tmp_path: Path):
    runs.run("a", 1, 0.9, name="mine")
    runs.run("b", 1, 0.5, name="mine", spec={"data": {"name": "cifar10", "content": None}})
    runs.run("c", 1, 0.6, name="mine", spec={"data": {"name": "own", "content": "0123456789abcdef"}})
    (runs.run("d", 1, 0.7, name="cut") / "result.json").unlink()
    report = gather([runs.folder])
    assert sorted((group.recipe, group.title) for group in report.groups) == [
        ("other runs on cifar10", "Runs on cifar10 that no sweep names"),
        ("other runs on mnist", "Runs on mnist that no sweep names"),
        ("other runs on own (0123456789ab)", "Runs on own (0123456789ab) that no sweep names"),
    ]
    assert all([entry.arm for entry in group.entries] == ["mine"] for group in report.groups)
    assert [notice.name.rpartition("-")[0] for notice in report.left_out] == ["other runs: cut"]
    write([runs.folder], tmp_path / "out", tmp_path / "saved")
    assert len(list((tmp_path / "saved").glob("*.json"))) == 3


def test_one_seed_under_two_teachers_is_two_arms_and_two_seeds_under_two_teachers_are_one(runs: Runs):
    def taught(arm: str, seed: int, by: int) -> Path:
        teacher = {"run": {"seed": by, "student": {"name": "cnn"}}}
        return runs.run(arm, seed, 0.9, name=arm, spec={"teacher": teacher}, teacher=fingerprint(by))

    folders = [taught("twice", 0, 1), taught("twice", 0, 2), taught("twice", 1, 1), taught("even", 0, 1)]
    (group,) = gather([*folders, taught("even", 1, 2)]).groups
    counts = Counter(entry.arm.partition(" ")[0] for entry in group.entries)
    assert counts == {"twice": 3, "even": 2}
    table = {row.arm: row.seeds for row in rows(group)}
    assert table.pop("even") == (0, 1)
    assert sorted(table.values()) == [(0,), (0, 1)]


def test_a_copied_run_counts_once(runs: Runs):
    folder = runs.run("hard", 1, 0.9)
    shutil.copytree(folder, runs.folder / "the-same")
    (group,) = gather([runs.folder]).groups
    assert len(group.entries) == 1
    assert [(n.name, n.sentence) for n in group.left_out] == [
        ("the-same", f"It is the same run as {folder.name} and counts once.")
    ]


def test_scipy_waits_for_a_comparison_over_seeds(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9)
    runs.run("soft", 1, 0.91)
    code = (
        "import sys; from pathlib import Path; import potstill.report;"
        "potstill.report.write([Path(sys.argv[1])], Path(sys.argv[2])); print('scipy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(runs.sweep()), str(tmp_path / "out")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"


def test_no_torch(runs: Runs, tmp_path: Path):
    hinton(runs)
    code = (
        "import sys; from pathlib import Path; import potstill.report; early = set(sys.modules);"
        "potstill.report.write([Path(sys.argv[1])], Path(sys.argv[2]));"
        "print([name for name in ('torch', 'torchvision', 'matplotlib.pyplot') if name in sys.modules],"
        "[name for name in ('matplotlib', 'jinja2', 'numpy') if name in early])"
    )
    command = [sys.executable, "-c", code, str(runs.folder), str(tmp_path / "out")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[] []\n"
