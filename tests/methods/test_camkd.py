from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from methods.maps import batch, built, maps, plan
from potstill.display import Silent
from potstill.errors import UserError
from potstill.methods import AVER, CAMKD, KD, Labels, confidence_weights
from potstill.run import Run
from potstill.stage import Stage
from potstill.teachers import Ensemble, Given
from potstill.term import Progress
from potstill.types import Trace

FIRST, SECOND = Progress(0, 0.9, 4), Progress(9, 1.0, 4)
# Each teacher's last map: of fewer positions than the student's 4 × 4, of as many, and of more.
SHAPES = [(3, 2, 2), (6, 4, 4), (5, 8, 8)]
IMAGES = 4


def heads() -> nn.ModuleList:
    """Networks of which nothing counts but that they end in a classifier of three classes."""
    torch.manual_seed(0)
    return nn.ModuleList(nn.Sequential(nn.Flatten(), nn.Linear(shape[0], 3)) for shape in SHAPES)


def traces() -> tuple[Trace, Trace]:
    """A student and three teachers."""
    student = Trace(maps(IMAGES, 3, seed=1).mul(3), {"stage3": maps(IMAGES, 7, 4, 4, seed=2)})
    members = tuple(Trace(maps(IMAGES, 3, seed=10 + place).mul(3), {}) for place in range(3))
    taps = {f"{place}/stage3": maps(IMAGES, *shape, seed=20 + place).relu() for place, shape in enumerate(SHAPES)}
    return student, Trace(torch.stack([member.logits for member in members]).mean(0), taps, members)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    exp = np.exp(x - x.max(axis, keepdims=True))
    return exp / exp.sum(axis, keepdims=True)


def confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(1 − softmax over teachers of their cross-entropy) / (M − 1)."""
    wrong = -np.log(softmax(logits, 2)[:, np.arange(len(labels)), labels])
    return (1 - softmax(wrong, 0)) / (len(logits) - 1)


def pooled(x: np.ndarray, size: int) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, size, h // size, size, w // size).mean((3, 5))


def soft_part(student: Trace, teacher: Trace, labels: np.ndarray, temperature: float) -> float:
    """Σ_m w_m T² KL, mean over images, divided by M."""
    said = np.stack([member.logits.detach().numpy() for member in teacher.members])
    p_s = softmax(student.logits.detach().numpy() / temperature, 1)
    p_t = softmax(said / temperature, 2)
    apart = temperature**2 * (p_t * np.log(p_t / p_s)).sum(2)
    return (confidence(said, labels) * apart).sum(0).mean() / len(said)


def feature_part(student: Trace, teacher: Trace, labels: np.ndarray, part: nn.ModuleList, networks: nn.ModuleList):
    """Σ_m v_m mean (F_m − F_t)², mean over images, divided by M, with the connectors' own numbers alone."""
    x = student.taps["stage3"].detach().numpy()
    projected: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    for read, network in zip(part, networks, strict=True):
        assert isinstance(read.connector, nn.Module)
        state = {name: value.numpy() for name, value in read.connector.state_dict().items()}
        y = np.einsum("oi,nihw->nohw", state["0.weight"][:, :, 0, 0], x)
        mean, var = y.mean((0, 2, 3), keepdims=True), y.var((0, 2, 3), keepdims=True)
        y = np.maximum((y - mean) / np.sqrt(var + 1e-5), 0)
        last = list(network.children())[-1]
        assert isinstance(last, nn.Linear)
        projected.append(y)
        logits.append(y.mean((2, 3)) @ last.weight.detach().double().numpy().T + last.bias.detach().double().numpy())
    v = confidence(np.stack(logits), labels)
    total = 0.0
    for place, y in enumerate(projected):
        t = teacher.taps[f"{place}/stage3"].detach().numpy()
        size = min(y.shape[2], t.shape[2])
        total += (v[place] * ((pooled(y, size) - pooled(t, size)) ** 2).mean((1, 2, 3))).mean()
    return total / len(projected)


def learned(term: CAMKD, student: Trace, teacher: Trace, networks: nn.Module) -> nn.ModuleList:
    torch.manual_seed(3)
    part = built(term, student, teacher, networks)
    assert isinstance(part, nn.ModuleList)
    return part


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 50.0, 4.0), (2.0, 3.0, 1.5), (0.0, 1.0, 4.0)])
def test_it_is_what_the_paper_says(alpha: float, beta: float, temperature: float):
    (student, teacher), networks = traces(), heads()
    term = CAMKD(alpha=alpha, beta=beta, temperature=temperature)
    part = learned(term, student, teacher, networks)
    labels = np.arange(IMAGES) % 3
    soft = alpha * soft_part(student, teacher, labels, temperature)
    features = beta * feature_part(student, teacher, labels, part, networks)
    assert features > 0.05
    assert term.loss(batch(IMAGES), student, teacher, part, SECOND).item() == pytest.approx(soft + features, rel=1e-6)
    # In the first epoch the maps do not count, unless that is asked for.
    assert term.loss(batch(IMAGES), student, teacher, part, FIRST).item() == pytest.approx(soft, rel=1e-9, abs=1e-12)
    always = replace(term, features_from=0)
    assert always.loss(batch(IMAGES), student, teacher, part, FIRST).item() == pytest.approx(soft + features, rel=1e-6)


def test_gradients_reach_the_student_and_the_connectors_but_neither_teachers_nor_weights():
    (student, teacher), networks = traces(), heads()
    tapped = student.taps["stage3"].requires_grad_()
    for leaf in (student.logits, *teacher.taps.values(), *(member.logits for member in teacher.members)):
        leaf.requires_grad_()
    term = CAMKD(alpha=0.0)
    part = learned(term, student, teacher, networks)
    term.loss(batch(IMAGES), student, teacher, part, SECOND).backward()
    assert tapped.grad is not None
    assert tapped.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    for leaf in (*teacher.taps.values(), *(member.logits for member in teacher.members), *networks.parameters()):
        assert leaf.grad is None
    # The weights of the maps are numbers: with them given, the gradient is that of the squares alone.
    found, tapped.grad = tapped.grad, None
    read = [each(tapped) for each in part]
    v = confidence_weights(torch.stack([logits for _, logits in read]), batch(IMAGES).labels)
    again = torch.zeros((), dtype=torch.float64)
    for place, (projected, _) in enumerate(read):
        t = teacher.taps[f"{place}/stage3"].detach()
        size = min(projected.shape[2], t.shape[2])
        apart = [nn.functional.adaptive_avg_pool2d(x, size) for x in (projected, t)]
        again = again + 50 / 3 * (v[place].detach() * (apart[0] - apart[1]).square().mean((1, 2, 3))).mean()
    again.backward()
    torch.testing.assert_close(found, tapped.grad, rtol=1e-6, atol=1e-12)


def test_the_righter_a_teacher_the_more_it_counts_in_the_loss():
    student, teacher = traces()
    labels = batch(IMAGES).labels
    sure = 5 * nn.functional.one_hot(labels, 3).double()
    members = tuple(Trace(logits, {}) for logits in (sure, -sure, torch.zeros_like(sure)))
    weights = confidence_weights(torch.stack([member.logits for member in members]), labels)
    assert (weights[0] > weights[2]).all()
    assert (weights[2] > weights[1]).all()
    assert weights.sum(0).tolist() == pytest.approx([1.0] * IMAGES)
    # A student that agrees with the right one is closer than one that agrees with the wrong one.
    part = learned(CAMKD(), student, teacher, heads())
    answer = teacher._replace(members=members)
    near, far = (
        CAMKD().loss(batch(IMAGES), student._replace(logits=x), answer, part, FIRST).item() for x in (sure, -sure)
    )
    assert near < far / 2


def refusal(term: CAMKD, teacher: Trace, network: nn.Module | None) -> str:
    with pytest.raises(UserError) as told:
        term.build(traces()[0], teacher, plan(network))
    return str(told.value)


def test_what_it_cannot_weigh_is_refused_before_training():
    _, teacher = traces()
    networks = heads()
    assert refusal(CAMKD(), teacher._replace(members=()), networks) == (
        "The term 'camkd' weighs several teachers, but the run's teacher is a single one; give it an Ensemble of at "
        "least two, or take KD()."
    )
    assert refusal(CAMKD(teacher=("0/stage3", "1/stage3")), teacher, networks) == (
        "The term 'camkd' was given 2 taps of teachers but there are 3 teachers; name one tap for each."
    )
    single = "The term 'camkd' reads the classifiers of all teachers; give it an Ensemble of single networks."
    for network in (None, networks[0], nn.ModuleList(networks[:2]), nn.ModuleList([*networks[:2], networks])):
        assert refusal(CAMKD(), teacher, network) == single
    headless = nn.ModuleList([*networks[:2], nn.Sequential(nn.Flatten(), nn.Linear(5, 3), nn.ReLU())])
    assert refusal(CAMKD(), teacher, headless) == (
        "The teacher 2, a Sequential, does not end in a linear classifier; give a network that does."
    )
    for features, classes in ((4, 3), (5, 2)):
        other = nn.ModuleList([*networks[:2], nn.Linear(features, classes)])
        assert refusal(CAMKD(), teacher, other) == (
            f"The teacher's '2/stage3' has 5 channels and the data 3 classes, but its classifier reads {features} "
            f"features and answers {classes} classes; tap its last map, and take a teacher of the data's classes."
        )


def test_options_are_checked():
    for taps in (("stage3",), ("1/stage3", "0/stage3"), ("0/stage3", "0/stage2")):
        with pytest.raises(UserError) as told:
            CAMKD(teacher=taps)
        assert str(told.value) == (
            f"The term 'camkd' was given the teachers' taps {taps}; expected one for each in their order, as in "
            "('0/stage3', '1/stage3')."
        )
    with pytest.raises(UserError, match=r"^The term 'camkd' was given 2 taps of the student; expected one\.$"):
        CAMKD(student=("stage2", "stage3"))
    with pytest.raises(UserError, match=r"^The features_from of 'camkd' is -1; expected an epoch ≥ 0\.$"):
        CAMKD(features_from=-1)
    for name in ("alpha", "beta"):
        with pytest.raises(UserError, match=rf"^The {name} of 'camkd' is -1; expected a number ≥ 0\.$"):
            replace(CAMKD(), **{name: -1.0})
    with pytest.raises(UserError, match=r"^The temperature is 0; expected a number > 0"):
        CAMKD(temperature=0.0)


def knowing(seed: int) -> Given:
    """What knows the prototypes, each in its own way; its last map, behind a ReLU, is that of module 3."""
    first, last = nn.Linear(192, tiny.CLASSES), nn.Linear(tiny.CLASSES, tiny.CLASSES)
    known = torch.from_numpy(tiny.prototypes().reshape(tiny.CLASSES, -1))
    noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        first.weight.copy_(0.03 * known + 0.005 * noise)
        first.bias.fill_(0.1)
        last.weight.copy_((1 + seed) * torch.eye(tiny.CLASSES))
        last.bias.zero_()
    as_map = nn.Unflatten(1, (tiny.CLASSES, 1, 1))
    return tiny.teacher(nn.Sequential(nn.Flatten(), first, as_map, nn.ReLU(), nn.Flatten(), last))


THREE = Ensemble((knowing(0), knowing(1), knowing(2)))
TAPS = ("0/3", "1/3", "2/3")


def run(name: str, **options: float) -> Run:
    term = replace(CAMKD(student=("stage1",), teacher=TAPS), **options)
    stage = Stage(terms=(Labels(), term), epochs=2, optimizer=tiny.SGD)
    return tiny.run(name, teacher=THREE, stages=[stage])


class _Power(Exception):
    """The current fails."""


class _Cut(Silent):
    """A display that ends the training in the second epoch."""

    def at(self, what: str, step: int) -> None:
        if step == tiny.STEPS + 2:
            raise _Power


def test_three_teachers_teach_without_maps_in_the_first_epoch_and_go_on_where_they_were_cut(tmp_path: Path):
    with_maps, without = run("maps"), run("none", beta=0.0)
    told = [tiny.told(folder) for folder in tiny.train_in(tmp_path / "whole", [with_maps, without])]
    first, second = zip(*(each["metrics"] for each in told), strict=True)
    # The validation pass after the first epoch looks on from where the second begins.
    assert first[0]["train"] == first[1]["train"]
    assert second[0]["train"]["terms"]["camkd"] > 1.5 * second[1]["train"]["terms"]["camkd"]
    assert told[0]["result"]["status"] == "finished"
    assert told[0]["weights"]["student.safetensors"] != told[1]["weights"]["student.safetensors"]
    with pytest.raises(_Power):
        tiny.train_in(tmp_path / "cut", [with_maps], pause=0, display=_Cut())
    assert tiny.told(tiny.train_in(tmp_path / "cut", [with_maps])[0]) == told[0]


def test_a_run_with_a_single_teacher_is_refused_before_it_begins(tmp_path: Path):
    for terms, words in (
        ((KD(), AVER()), "The term 'aver' weighs several teachers, but the run's teacher is a single one; "),
        ((CAMKD(student=("stage1",), teacher=TAPS),), "tap '0/3', but "),
    ):
        single = tiny.run(teacher=knowing(0), stages=[Stage(terms=terms, epochs=1, optimizer=tiny.SGD)])
        with pytest.raises(UserError) as told:
            tiny.train_in(tmp_path, [single])
        assert str(told.value).startswith(words)
    assert not list(tmp_path.glob("*/*.json*"))
