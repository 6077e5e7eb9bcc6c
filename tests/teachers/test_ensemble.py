"""Several that speak as one."""

from pathlib import Path

import tiny
import torch
from torch import nn

from potstill import record
from potstill.data import load
from potstill.display import Silent
from potstill.models import Network, build
from potstill.teachers import Ensemble, Given
from potstill.teachers.ensemble import Choir
from teachers.asked import first, opened, taught


def test_an_ensemble_answers_the_weighted_mean_and_every_member_for_itself():
    resident = load(tiny.data())
    networks = [tiny.linear_teacher(0.05), tiny.linear_teacher(-0.1), build(tiny.convolutional()).eval()]
    members = tuple(Given(Network.given(network, tiny.CLASSES)) for network in networks)
    source = opened(Ensemble(members, weights=(1.0, 1.0, 2.0)), resident)
    assert isinstance(source, Choir)
    batch = first(resident)
    answer = source(batch, resident.train, ("2/stage1", "0/1:in"))
    alone = [network(batch.inputs) for network in networks]
    torch.testing.assert_close(answer.logits, (alone[0] + alone[1] + 2 * alone[2]) / 4)
    for member, logits in zip(answer.members, alone, strict=True):
        torch.testing.assert_close(member.logits, logits)
    assert list(answer.taps) == ["0/1:in", "2/stage1"]
    assert list(answer.members[2].taps) == ["stage1"]
    assert answer.taps["2/stage1"] is answer.members[2].taps["stage1"]
    torch.testing.assert_close(source.answers(resident.train)[batch.index], answer.logits)
    assert source.look(["2/stage1"]).taps["2/stage1"].shape == (2, *answer.taps["2/stage1"].shape[1:])


def test_members_of_unlike_architectures_teach_and_each_is_judged(runs_dir: Path):
    lines: list[str] = []

    class Said(Silent):
        def line(self, text: str) -> None:
            lines.append(text)

    ensemble = Ensemble((tiny.teacher(), tiny.teacher(nn.Sequential(nn.BatchNorm2d(3), tiny.linear_teacher()).eval())))
    (folder,) = tiny.train_in(runs_dir, [taught(ensemble)], display=Said())
    assert lines == [f"teacher{which}: 100.00% on 11 images" for which in (" 1 of 2", " 2 of 2", "")]
    found = record.Record(folder).result
    assert found is not None
    assert (found["teacher_accuracy"], found["member_accuracies"]) == (1.0, [1.0, 1.0])
    assert found["forwards_per_step"] == 1.0
