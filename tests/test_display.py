import os
import re
import select
import sys
from contextlib import contextmanager

import pytest

from potstill import display as displays
from potstill.display import Bars, Lines, Silent, for_terminal


def course(display, steps=8, what="seed 0: hard, soft"):
    display.line("teacher: 98.70% on [2,000] images")
    display.begin(what, steps)
    for step in range(1, steps + 1):
        display.at(what, step)
    display.end(what)


def test_silence_says_nothing(capfd):
    course(Silent())
    assert capfd.readouterr() == ("", "")


def test_lines_tell_the_quarters_once_each(capfd, monkeypatch):
    monkeypatch.setattr(displays, "QUIET_SECONDS", 0.0)
    course(Lines())
    out, err = capfd.readouterr()
    assert err == ""
    assert [re.sub(r"after \d+ s", "after N s", line) for line in out.splitlines()] == [
        "teacher: 98.70% on [2,000] images",
        "seed 0: hard, soft: 8 steps",
        "seed 0: hard, soft: 25 % after N s",
        "seed 0: hard, soft: 50 % after N s",
        "seed 0: hard, soft: 75 % after N s",
        "seed 0: hard, soft: done after N s",
    ]


def test_a_short_cohort_tells_its_begin_and_end_only(capfd):
    course(Lines())
    assert [line.partition(" after")[0] for line in capfd.readouterr().out.splitlines()[1:]] == [
        "seed 0: hard, soft: 8 steps",
        "seed 0: hard, soft: done",
    ]


def test_lines_of_a_continued_cohort_begin_where_it_stands(capfd, monkeypatch):
    monkeypatch.setattr(displays, "QUIET_SECONDS", 0.0)
    display = Lines()
    display.begin("a", 1_000)
    display.begin("b", 3)
    display.at("a", 620)
    display.at("b", 1)
    display.at("a", 621)
    display.end("a")
    display.end("b")
    out = re.sub(r"after \d+ s", "after N s", capfd.readouterr().out)
    assert out.splitlines() == [
        "a: 1,000 steps",
        "b: 3 steps",
        "a: 50 % after N s",
        "b: 25 % after N s",
        "a: done after N s",
        "b: done after N s",
    ]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_few_steps_are_no_trouble(capfd, steps):
    course(Lines(), steps)
    assert capfd.readouterr().out.splitlines()[1] == f"seed 0: hard, soft: {steps} steps"


def test_lines_are_written_as_they_come(tmp_path, monkeypatch):
    # A file or pipe is buffered: whoever follows it wants each line at once, and a kill must not lose it.
    with open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        Lines().line("first")
        assert (tmp_path / "out").read_text() == "first\n"


@contextmanager
def on_terminal(monkeypatch):
    """A pseudo-terminal as standard output and standard error, and a function that tells what was shown since."""
    here, there = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def shown():
        text = b""
        while select.select([here], [], [], 0.05)[0]:
            text += os.read(here, 65536)
        return text.decode()

    with open(there, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        yield shown
    os.close(here)


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_gets_bars_unless_it_is_to_be_quiet(monkeypatch):
    with on_terminal(monkeypatch):
        assert isinstance(for_terminal(quiet=False), Bars)
        assert isinstance(for_terminal(quiet=True), Silent)


def test_a_pipe_gets_lines(capfd, monkeypatch, tmp_path):
    assert isinstance(for_terminal(quiet=False), Lines)
    assert isinstance(for_terminal(quiet=True), Silent)
    with on_terminal(monkeypatch), open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)  # Only standard error is a terminal now.
        assert isinstance(for_terminal(quiet=False), Lines)


def test_bars_show_names_and_steps_and_lines_as_they_are(monkeypatch):
    with on_terminal(monkeypatch) as shown:
        display = for_terminal(quiet=False)
        display.begin("seed 0: hard [T 4] [red]", 1_000)
        display.line("teacher: [bold]98.70%[/bold] on [2,000] images")
        display.at("seed 0: hard [T 4] [red]", 250)
        display.begin("second", 10)
        display.end("second")
        display.end("seed 0: hard [T 4] [red]")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown())
    assert "seed 0: hard [T 4] [red]" in text
    assert "250/1000" in text
    assert "second" in text
    assert "teacher: [bold]98.70%[/bold] on [2,000] images" in text


def test_the_terminal_is_left_as_it_was_when_the_last_bar_ends(monkeypatch):
    back = "\x1b[?25h"  # The cursor, which is hidden while a bar is left, is shown again.
    with on_terminal(monkeypatch) as shown:
        display = for_terminal(quiet=False)
        for name in ("a", "b"):
            display.begin(name, 10)
        display.end("a")
        assert back not in shown()
        display.end("b")
        assert back in shown()
        display.begin("third", 10)  # The next level of a sweep begins after all bars have gone.
        display.end("third")
        text = shown()
    assert "third" in text
    assert back in text
