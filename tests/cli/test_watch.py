"""The table of runs: what it says of every state, and that it goes on while they do, on a real terminal."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from report.folders import Runs, fingerprint, write
from rich.console import Console
from stopping import RECIPE, SECONDS, Halts, meanwhile
from stopping import halts as halts

from potstill import record
from potstill.cli import main
from potstill.live.following import Course, Following, Sight
from potstill.live.standings import drawn
from potstill.report.find import Notice

from .screen import refused

EMPTY: dict[str, Any] = {"stages": [{"epochs": 10}]}


def begun(runs: Runs, arm: str, seed: int, epochs: int, pace: float = 2.0, **changes: Any) -> Path:
    """A run that has so many of its ten epochs behind it, each of which took `pace` seconds, the last just now."""
    folder = runs.run(arm, seed, 0.9, count=10, spec=EMPTY, **changes)
    (folder / "result.json").unlink()
    lines = record.read_lines(folder / "metrics.jsonl")[:epochs]
    now = time.time()
    for line in lines:
        line["time"] = now - pace * (epochs - line["epoch"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def table(text: str) -> dict[str, list[str]]:
    """The cells of each run, by its arm."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {cells[1]: [cells[0], *cells[2:]] for cells in lines if len(cells) > 6}


def test_a_pipe_gets_the_table_once_with_every_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = Runs(tmp_path)
    runs.run("done", 3, 0.9876, spec=EMPTY)
    runs.run("wild", 0, 0.1, spec=EMPTY, status="diverged", reason="a loss was no number")
    begun(runs, "left", 0, 4)
    under_way = begun(runs, "going [red]", 12, 6)
    runs.named.append({"arm": "later", "role": "student", "seed": 0, "fingerprint": "f" * 64, "folder": "later-f"})
    sweep = runs.sweep()
    with record.held(under_way):
        assert main(["watch", str(sweep)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    rows = table(told)
    assert set(rows) == {"arm", "going [red]", "wild", "done", "left", "later"}
    assert list(rows)[1] == "going [red]"
    assert list(rows)[-1] == "later"
    assert rows["later"] == ["waiting", "0", "–", "–", "–", "–", "–", "–"]
    assert rows["done"][:3] == ["finished", "3", "10/10"]
    assert rows["wild"][0] == "diverged"
    assert rows["left"][:3] == ["stopped", "0", "4/10"]
    line = record.read_lines(under_way / "metrics.jsonl")[-1]
    accuracy = f"{100 * line['validation']['accuracy']:.2f}"
    assert rows["going [red]"][:6] == ["running", "12", "6/10", f"{line['train']['loss']:.4g}", accuracy, accuracy]
    # 750 steps in two seconds; four epochs to go.
    assert rows["going [red]"][6] == "375"
    assert rows["going [red]"][7] in ("0:06", "0:07", "0:08")
    assert told.splitlines()[-1] == "5 runs: 1 running, 1 stopped, 1 diverged, 1 finished, 1 waiting"


def test_what_is_no_run_gets_a_line_and_the_others_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = Runs(tmp_path)
    runs.run("good", 0, 0.9, spec=EMPTY, name="good")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lock").touch()
    newer = runs.run("newer", 0, 0.9, spec=EMPTY, name="newer")
    write(newer / "run.json", json.loads((newer / "run.json").read_text()) | {"format": 99, "version": "9.9"})
    cut = runs.run("cut", 0, 0.9, spec=EMPTY, name="cut")
    (cut / "result.json").write_text('{"status": "fin')
    lines = runs.run("lines", 0, 0.9, spec=EMPTY, name="lines")
    (lines / "metrics.jsonl").write_text("no json\n")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    write(foreign / "run.json", {"format": 1, "fingerprint": "a" * 64})
    assert main(["watch", str(tmp_path), "--once"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 + 1 + 1 + 5
    assert told[1].startswith("finished  good")
    assert told[2] == "1 run: 1 finished"
    said = "\n".join(sorted(told[3:]))
    assert "holiday" not in said
    assert "begun is not a run folder: it holds no readable run.json" in said
    assert f"{newer.name}/run.json was written by Potstill 9.9, which is newer than this one" in said
    assert f"{cut.name}/result.json was cut short" in said
    assert f"{lines.name}/metrics.jsonl holds a line that is not JSON" in said
    assert "foreign cannot be read; it was not written by Potstill, or is damaged." in said


def test_what_is_asked_of_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, ["watch"]).startswith("No runs were named and there is no folder runs;")
    assert refused(capsys, ["watch", "nowhere"]).startswith("nowhere does not exist;")


def test_a_folder_that_was_just_made_is_running(tmp_path: Path):
    (tmp_path / "new").mkdir()
    with record.held(tmp_path / "new"):
        (course,) = Following([tmp_path]).look().courses
    assert (course.arm, course.status, course.epoch) == ("new", "running", 0)


def test_a_run_of_two_arms_is_one_row_and_recipes_stand_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = Runs(tmp_path)
    runs.run("corner", 0, 0.9, spec=EMPTY)
    runs.named.append(runs.named[0] | {"arm": "baseline"})
    runs.sweep("mnist:first")
    runs.run("other", 0, 0.9, spec=EMPTY)
    runs.sweep("mnist:second")
    assert main(["watch", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "baseline" not in told
    assert re.search(r"finished +mnist:first +corner", told)
    assert re.search(r"finished +mnist:second +other", told)


def test_only_what_changed_is_read_again(tmp_path: Path):
    runs = Runs(tmp_path)
    done, going = runs.run("done", 0, 0.9, spec=EMPTY), begun(runs, "going", 0, 2)
    following = Following([runs.sweep()])
    assert [course.epoch for course in following.look().courses] == [10, 2]
    line = record.read_lines(going / "metrics.jsonl")[-1]
    record.append_line(going / "metrics.jsonl", line | {"epoch": 3, "step": 2250, "time": line["time"] + 2})
    # A file whose size and time are as they were is taken to be as it was.
    stamp = (done / "metrics.jsonl").stat()
    (done / "metrics.jsonl").write_text("x" * stamp.st_size)
    os.utime(done / "metrics.jsonl", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert [course.epoch for course in following.look().courses] == [10, 3]


def test_a_pause_between_two_epochs_is_not_their_speed(tmp_path: Path):
    runs = Runs(tmp_path)
    folder = begun(runs, "going", 0, 6)
    lines = record.read_lines(folder / "metrics.jsonl")
    for line in lines[:4]:
        line["time"] -= 5_000
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (course,) = Following([runs.sweep()]).look().courses
    assert course.pace == pytest.approx(375)
    assert course.left is None  # It does not run.


def courses(count: int) -> list[Course]:
    return [Course("r", f"arm {i}", i, "finished" if i % 2 else "waiting", since=float(i)) for i in range(count)]


@pytest.mark.parametrize("height", [1, 5, 24, 200])
@pytest.mark.parametrize("notices", [0, 2, 40])
def test_a_table_is_no_higher_than_the_terminal(height: int, notices: int):
    said = tuple(
        Notice("x", f"{i} is not a run folder, and this sentence is longer than a line" * 3) for i in range(notices)
    )
    out = StringIO()
    Console(file=out, width=80, height=height).print(drawn(Sight(tuple(courses(50)), said), height))
    lines = out.getvalue().splitlines()
    assert len(lines) <= max(height - 1, 3 + min(notices, 5) + 1)
    assert max(map(len, lines)) <= 80
    if height < 50:
        shown = sum(bool(re.match(r"(finished|waiting) ", line)) for line in lines)
        (more,) = (line for line in lines if line.startswith("… and "))
        assert more.startswith(f"… and {50 - shown} more: ")
        # The newest first, and what waits last.
        assert lines[1].split()[:3] == ["finished", "arm", "49"]
    assert any(line.startswith("50 runs: 25 finished, 25 waiting") for line in lines)


class Terminal:
    """A command on a pseudo-terminal of 24 lines."""

    def __init__(self, *words: str):
        self._here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "potstill.cli", *words],
            stdin=there,
            stdout=there,
            stderr=there,
            env={**plain, "TERM": "xterm"},
            start_new_session=True,
            # What a shell starts in the background ignores interrupts, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(there)
        self.shown = ""

    def until(self, wanted: Callable[[str], bool]) -> None:
        """Read what it shows until that is there, or its end."""
        while not wanted(self.shown):
            ready, _, _ = select.select([self._here], [], [], SECONDS)
            assert ready, f"nothing more was shown after {self.shown!r}"
            try:
                new = os.read(self._here, 65536)
            except OSError:  # What Linux says where a terminal ends.
                new = b""
            if not new:
                return
            self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", new.decode(errors="replace"))

    def end(self) -> int:
        """Read to its end; returns its status."""
        self.until(lambda _: False)
        os.close(self._here)
        return self.process.wait(SECONDS)


@pytest.fixture
def watching() -> Generator[Callable[..., Terminal], None, None]:
    terminals: list[Terminal] = []

    def start(*words: str) -> Terminal:
        terminals.append(Terminal(*words))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.process.kill()
        terminal.process.wait()


def test_a_real_training_is_followed_to_its_end(tmp_path: Path, halts: Halts, watching: Callable[..., Terminal]):
    (tmp_path / "halting.py").write_text(RECIPE)
    runs_dir = tmp_path / "runs"
    found: list[Terminal] = []

    def follow() -> None:
        halts.wait(1)  # The training stands in its second epoch.
        terminal = watching("watch", str(runs_dir / "halting.py-single.sweep.json"))
        found.append(terminal)
        terminal.until(lambda shown: bool(re.search(r"running +single +0 +1/3 ", shown)))
        halts.let_go()

    with meanwhile(follow):
        words = ["run", f"{tmp_path / 'halting.py'}:single", "--seed", "0", "--runs-dir", str(runs_dir), "--quiet"]
        assert main(words) == 0
    (terminal,) = found
    assert terminal.end() == 0
    assert re.search(r"finished +single +0 +3/3 ", terminal.shown)
    assert terminal.shown.rstrip().endswith("1 run: 1 finished")


def test_an_interrupt_ends_it_with_status_0_and_the_cursor_back(tmp_path: Path, watching: Callable[..., Terminal]):
    runs = Runs(tmp_path)
    begun(runs, "left", 0, 4)
    terminal = watching("watch", str(runs.sweep()))
    terminal.until(lambda shown: "1 run: 1 stopped" in shown)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "interrupted" not in terminal.shown
    assert "Traceback" not in terminal.shown


def test_runs_that_are_finished_need_no_watching(tmp_path: Path, watching: Callable[..., Terminal]):
    runs = Runs(tmp_path)
    for seed in range(40):
        runs.run("done", seed, 0.9, spec=EMPTY)
    terminal = watching("watch", str(runs.sweep()))
    assert terminal.end() == 0
    assert "… and 20 more: 20 finished" in terminal.shown
    assert terminal.shown.rstrip().endswith("40 runs: 40 finished")


def test_five_hundred_runs_are_looked_at_within_a_second(tmp_path: Path):
    runs = Runs(tmp_path)
    for seed in range(500):
        runs.run("arm", seed, 0.9, spec=EMPTY, identity=fingerprint("many", seed))
    following = Following([runs.sweep()])
    assert len(following.look().courses) == 500
    start = time.process_time()
    following.look()
    assert time.process_time() - start < 1
