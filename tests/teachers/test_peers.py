"""Networks that learn along with the student."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from potstill.checkpoint import read_weights
from potstill.data import load
from potstill.errors import UserError
from potstill.methods import KD, Labels, Mutual
from potstill.models import Network, build
from potstill.optim import Optimizer
from potstill.run import result_of
from potstill.stage import Stage
from potstill.teachers import Peers
from teachers.asked import result, taught


def test_of_peers_of_a_kind_the_best_on_validation_ships(runs_dir: Path):
    alone = tiny.run("alone", student=tiny.wider(), stages=[Stage(terms=(Labels(),), epochs=6, optimizer=tiny.SGD)])
    tiny.train_in(runs_dir, [alone])
    good = Network.given(result_of(alone).load(runs_dir), tiny.CLASSES)
    still = Stage(terms=(Labels(), KD()), epochs=1, optimizer=replace(tiny.SGD, learning_rate=1e-6))
    untrained = Network.given(build(tiny.wider()), tiny.CLASSES)
    run = tiny.run(
        "peers", student=untrained, stages=[still], teacher=Peers((tiny.wider(), good, tiny.convolutional()))
    )
    found, _ = result(runs_dir, run)
    assert found["peer"] == 2
    network = result_of(run).load(runs_dir).eval()
    resident = load(run.data)
    with torch.no_grad():
        right = network(resident.batch(resident.test, torch.arange(20)).inputs).argmax(1) == resident.test.labels
    assert right.float().mean().item() == pytest.approx(found["test_accuracy"])
    assert (found["forwards_per_step"], found["backwards_per_step"]) == (4, 4)


@pytest.mark.parametrize("update", ["together", "in turn"])
def test_peers_step_from_the_same_predictions_or_one_after_the_other(update: Any, tmp_path: Path):
    data = tiny.data(train=8, validation=0)
    torch.manual_seed(0)
    peers = [nn.Sequential(nn.Flatten(), nn.Linear(192, tiny.CLASSES, bias=False)) for _ in range(2)]
    first, second = (network.get_parameter("1.weight").detach().double() for network in peers)
    resident = load(data)
    inputs = resident.batch(resident.train, torch.arange(8)).inputs.flatten(1).double()

    def moved(own: Tensor, other: Tensor) -> Tensor:
        """A step of 0.1 along (p − q)·x, q a constant."""
        return own - 0.1 * ((inputs @ own.T).softmax(1) - (inputs @ other.T).softmax(1)).T @ inputs / 8

    for _ in range(2):
        ahead = moved(first, second)
        first, second = ahead, moved(second, ahead if update == "in turn" else first)
    given = [Network.given(network, tiny.CLASSES) for network in peers]
    stage = Stage(terms=(Mutual(),), epochs=2, optimizer=Optimizer(name="SGD", learning_rate=0.1))
    run = tiny.run("two", student=given[0], stages=[stage], teacher=Peers((given[1],), update), data=data)
    (folder,) = tiny.train_in(tmp_path, [run])
    trained = read_weights(folder / "student.safetensors")["1.weight"].double()
    torch.testing.assert_close(trained, first, rtol=1e-5, atol=1e-6)


def test_a_peer_of_another_kind_is_there_to_teach_however_good(runs_dir: Path):
    useless = Network("digits_conv", tiny.CLASSES, 3, options={"width": 1})
    found, folder = result(runs_dir, taught(Peers((tiny.wider(),)), student=useless, epochs=6))
    assert found["peer"] == 0
    assert read_weights(folder / "student.safetensors").keys() == build(useless).state_dict().keys()
    assert found["parameters"] == sum(parameter.numel() for parameter in build(useless).parameters())


def test_without_validation_images_the_student_ships(runs_dir: Path):
    found, folder = result(runs_dir, taught(Peers((tiny.wider(),)), data=tiny.data(validation=0)))
    assert found["peer"] == 0
    assert read_weights(folder / "student.safetensors").keys() == build(tiny.convolutional()).state_dict().keys()


def test_what_ships_does_what_was_measured_whatever_the_peer_does(runs_dir: Path):
    """A peer of the same class and shapes may be another function, and its weights worth nothing in the student."""

    def network(activation: nn.Module) -> Network:
        layers = [nn.Flatten(), nn.Linear(192, 16), activation, nn.Linear(16, tiny.CLASSES)]
        return Network.given(nn.Sequential(*layers), tiny.CLASSES)

    stage = Stage(terms=(Labels(),), epochs=6, optimizer=tiny.SGD)
    alone = tiny.run("alone", student=network(Turned()), stages=[stage])
    tiny.train_in(runs_dir, [alone])
    good = Network.given(result_of(alone).load(runs_dir), tiny.CLASSES)
    still = replace(stage, epochs=1, optimizer=replace(tiny.SGD, learning_rate=1e-6))
    run = tiny.run("unlike", student=network(nn.ReLU()), stages=[still], teacher=Peers((good,)))
    found, _ = result(runs_dir, run)
    shipped = result_of(run).load(runs_dir).eval()
    resident = load(run.data)
    with torch.no_grad():
        right = shipped(resident.batch(resident.test, torch.arange(20)).inputs).argmax(1) == resident.test.labels
    assert right.float().mean().item() == pytest.approx(found["test_accuracy"])


class Turned(nn.Module):
    """What a ReLU lets through it holds back."""

    def forward(self, x: Tensor) -> Tensor:
        return (-x).relu()


def fixed(num_classes: int = tiny.CLASSES, **_: object) -> nn.Module:
    """The same weights whenever it is built, as from a checkpoint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))


def test_named_networks_that_are_built_alike_are_refused_as_peers(runs_dir: Path):
    same = Network(f"{__name__}:fixed", tiny.CLASSES)
    with pytest.raises(
        UserError, match=r"^Two peers of 'taught' are the same network with the same weights, and would"
    ):
        tiny.train_in(runs_dir, [taught(Peers((same,)), student=same)])


def test_peers_in_turn_of_which_one_stays_as_it_is(runs_dir: Path):
    stage = Stage(terms=(Labels(), KD()), epochs=1, optimizer=tiny.SGD, train=("student.*",))
    run = tiny.run("still", stages=[stage], teacher=Peers((tiny.wider(),), "in turn"))
    found, folder = result(runs_dir, run)
    assert found["status"] == "finished"
    begun = run.build(None).state_dict()
    assert any(
        not torch.equal(begun[name], value) for name, value in read_weights(folder / "student.safetensors").items()
    )
