"""Comparisons small enough to be trained in a test."""

from dataclasses import replace

from potstill import Arm, Data, Network, Optimizer, Run, Stage, Sweep, result_of
from potstill.methods import KD, Labels
from potstill.teachers import Ensemble, Peers


def _run(name, *terms, width=4, epochs=2, teacher=None, seed=0, student=None):
    stage = Stage(terms=terms, epochs=epochs, optimizer=Optimizer(learning_rate=0.1))
    network = student or Network("digits_conv", classes=10, channels=1, options={"width": width})
    return Run(
        name=name, student=network, data=Data(name="digits"), stages=(stage,), teacher=teacher, seed=seed,
        precision="fp32",
    )  # fmt: skip


TEACHER = _run("teacher", Labels(), width=8, epochs=3)


def pair():
    """Labels and soft targets."""
    taught = result_of(TEACHER)
    arms = (
        Arm(name="labels", run=_run("labels", Labels(), teacher=taught)),
        Arm(name="soft", run=_run("soft", KD(), teacher=taught)),
    )
    return Sweep(arms=arms, seeds=(0, 1), teachers=(Arm(name="teacher", run=TEACHER),))


def crowd():
    """An ensemble, which has no run folder of its own."""
    both = Ensemble((result_of(TEACHER), result_of(replace(TEACHER, name="second", seed=1))))
    return [_run("labels", Labels(), teacher=both), _run("soft", KD(), teacher=both)]


def peers():
    """Two that teach each other."""
    other = Network("digits_mlp", classes=10, channels=1)
    return _run("mutual", Labels(), KD(temperature=1), teacher=Peers((other,)))
