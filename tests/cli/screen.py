"""What a command shows."""

import re
from collections.abc import Sequence

import pytest

from potstill.cli import main


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
