"""Teachers that have nothing to teach."""

from pathlib import Path

import tiny
import torch

from potstill.data import load
from potstill.teachers import Shuffled, Uniform, Untrained
from potstill.teachers.controls import Even, Misplaced
from potstill.teachers.gate import gate
from potstill.teachers.source import Live
from teachers.asked import first, opened, result, taught


def test_controls_teach_nothing_and_are_not_asked_to(runs_dir: Path):
    resident = load(tiny.data())
    batch = first(resident)
    right = tiny.linear_teacher()(batch.inputs)
    shuffled = opened(Shuffled(tiny.teacher()), resident)
    assert isinstance(shuffled, Misplaced)
    answer = shuffled(batch, resident.train, ("1:in",))
    torch.testing.assert_close(answer.logits, right.roll(1, 0))
    torch.testing.assert_close(answer.taps["1:in"], batch.inputs.flatten(1).roll(1, 0))
    uniform = opened(Uniform(), resident)
    assert isinstance(uniform, Even)
    assert not uniform(batch, resident.train).logits.any()
    drawn = opened(Untrained(tiny.convolutional(), seed=3), resident)
    assert isinstance(drawn, Live)
    again = opened(Untrained(tiny.convolutional(), seed=3), resident)
    assert torch.equal(drawn(batch, resident.train).logits, again(batch, resident.train).logits)
    for source in (shuffled, uniform, drawn):
        assert not source.answerable
        (line,) = gate(source, resident, at_least=0.99).lines
        assert line.endswith("on 11 images (a control)")
    for control in (Shuffled(tiny.teacher()), Uniform(), Untrained(tiny.convolutional())):
        assert result(runs_dir, taught(control))[0]["status"] == "finished"
