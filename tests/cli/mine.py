"""Recipes that are wrong, each in a way of its own, and some that are right."""

from dataclasses import replace

from potstill import Data, Network, Optimizer, Run, Stage, result_of
from potstill.methods import KD, Hint, Labels


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


def taught():
    return _run("taught", KD(), teacher=result_of(_run("teacher", rate=0.5)))


def wrong_model():
    return _run("x", KD(), model="digits_cnn", teacher=result_of(_run("teacher")))


def wrong_module():
    return _run("x", model="no.such:network")


def wrong_data():
    return _run("x", data="digit")


def wrong_method():
    from potstill.methods import KDD  # pyright: ignore[reportAttributeAccessIssue]

    return _run("x", KDD())


def wrong_attribute():
    from potstill import methods

    return _run("x", methods.Lables())  # pyright: ignore[reportAttributeAccessIssue]


def wrong_answer():
    return {"epochs": 3}


def cold(temperature: float = 4.0):
    return _run("x", KD(temperature=temperature), teacher=result_of(_run("teacher")))


def negative():
    return _run("x", Labels(weight=-1))


def untaught():
    return _run("x", KD())


def at_chance():
    return _run("x", KD(), teacher=result_of(_run("untrained", rate=1e-12)))


def seven():
    return _run("seven", KD(), classes=7, teacher=result_of(_run("teacher")))


def eleven():
    return _run("x", KD(), teacher=result_of(_run("eleven", classes=11)))


def wrong_glob():
    taught = _run("x", KD(), teacher=result_of(_run("teacher")))
    return replace(taught, stages=(*taught.stages, replace(taught.stages[0], train=("student.fcc.*",))))


def wrong_tap():
    return _run("x", Hint(student=("fc1",), teacher=("fc9",)), teacher=result_of(_run("teacher")))


def absent():
    return _run("x", data="mnist", model="mnist_mlp")


def clash(seed: int = 3):
    return _run("x")


def diverges():
    return [_run("good"), _run("bad", rate=1e30)]


def hopeless():
    still = result_of(_run("still", rate=1e-9))
    return [_run("good", KD(), teacher=result_of(_run("teacher", rate=0.5))), _run("pupil", KD(), teacher=still)]


def orphans():
    bad = result_of(_run("bad", rate=1e30))
    return [_run("good", KD(), teacher=result_of(_run("teacher", rate=0.5))), _run("orphan", KD(), teacher=bad)]
