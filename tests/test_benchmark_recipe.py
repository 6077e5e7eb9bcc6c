"""The benchmark on CIFAR-100: every method fits every pair, on the recipe of the field."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import quick
import tiny
import torch
from methods.maps import START, plan
from torch import nn

from potstill import UserError, recipes, record
from potstill.codec import encode
from potstill.cohort import train
from potstill.data import Data
from potstill.display import Silent
from potstill.machine import Machine
from potstill.models import Network, aliases, build, names
from potstill.objective import learn, weighted_sum
from potstill.optim import Constant, MultiStep
from potstill.places import classifier
from potstill.run import ResultOf, Run, fingerprint
from potstill.sight import look
from potstill.stage import Stage
from potstill.sweep import Arm, Sweep
from potstill.taps import trace
from potstill.teachers import Given
from potstill.types import Batch, Trace

IMAGE = (3, 32, 32)
PAIRS = (
    ("resnet32x4", "resnet8x4"),
    ("resnet32x4", "vgg8"),
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "mobilenet_v2"),
    ("vgg13", "shufflenet_v2"),
    ("resnet50", "shufflenet_v1"),
)


def benchmark(method: str, teacher: str = "resnet32x4", student: str = "resnet8x4") -> Sweep:
    sweep = recipes.find("cifar100:benchmark")(method=method, teacher=teacher, student=student)
    assert isinstance(sweep, Sweep)
    return sweep


def arm(method: str, teacher: str = "resnet32x4", student: str = "resnet8x4") -> Arm:
    return benchmark(method, teacher, student).arms[-1]


def networks(run: Run, teacher: nn.Module | None = None) -> tuple[nn.Module, nn.Module]:
    """Student and teacher with random weights, whose classifiers answer something."""
    assert isinstance(run.teacher, ResultOf)
    torch.manual_seed(1)
    teacher = teacher or build(run.teacher.networks[0]).eval()
    student = run.build(teacher)
    for network in (student, teacher):
        nn.init.normal_(classifier(network, "network").weight, std=0.1)
    return student.train(), teacher


def looks(student: nn.Module, ours: Sequence[str], teacher: nn.Module, theirs: Sequence[str]) -> tuple[Trace, Trace]:
    """What a dry run of both networks gives."""
    return look("student", student, ours, IMAGE, 100), look("teacher", teacher, theirs, IMAGE, 100)


def shown(network: nn.Module, taps: list[str]) -> Trace:
    """What a network says about four images."""
    images = torch.randn(4, *IMAGE, generator=torch.Generator().manual_seed(3))
    return trace(network, aliases=aliases(network))(images, tuple(dict.fromkeys(taps)))


def stages_of(arms: list[Arm]) -> list[Stage]:
    return [stage for each in arms for stage in each.run.stages]


def taps_of(stages: list[Stage]) -> tuple[list[str], list[str]]:
    several = [term for stage in stages for term in stage.terms]
    return [tap for term in several for tap in term.student_taps], [tap for t in several for tap in t.teacher_taps]


@pytest.mark.parametrize(("above", "below"), quick.only([*PAIRS[:2], PAIRS[3]], PAIRS))
def test_every_method_fits(above: str, below: str):
    arms = list(benchmark("all", above, below).arms)
    (reused,) = [each for each in arms if each.name == "simkd"]
    own = [each for each in arms if each is not reused]
    student, teacher = networks(own[0].run)
    for group, network in ((own, student), ([reused], networks(reused.run, teacher)[0])):
        ours, theirs = taps_of(stages_of(group))
        dry = looks(network, ours, teacher, theirs)
        with torch.no_grad():
            answer = shown(teacher, theirs)
        said = shown(network, ours)
        batch = Batch(torch.zeros(4, *IMAGE), torch.arange(4), torch.arange(4), torch.zeros(4, dtype=torch.int64))
        for each in group:
            if above == "resnet50" and each.name in ("factor", "mgd", "semckd"):
                continue  # Their 3×3 convolutions of 2048 channels and more take seconds to initialise.
            learned = nn.ModuleDict()
            for stage in each.run.stages:
                learn(stage.terms, learned, *dry, plan(teacher, network, 4, 100), 7)
                parts = dict(learned.items())
                losses = {t.key: t.loss(batch, said, answer, parts.get(t.key), START) for t in stage.terms}
                loss = weighted_sum(losses, stage.terms, START)
                assert loss.isfinite(), each.name
                assert loss.requires_grad, each.name


def test_an_initialisation_and_a_reused_classifier_run_through(tmp_path: Path):
    images = np.random.default_rng(3).normal(size=(100, *IMAGE)).astype(np.float32)
    network = networks(arm("kd", "resnet14", "resnet8").run)[1]
    with torch.no_grad():
        logits = network(torch.from_numpy(images))
        classifier(network, "teacher").bias.sub_(logits.mean(0))  # Or it would take all images for one class.
        labels = (logits - logits.mean(0)).argmax(1).numpy()
    data = Data.given(
        (images, labels, images[:20], labels[:20]), name="noise", class_names=[str(k) for k in range(100)]
    )
    teacher = Given(Network.given(network, 100))
    runs = [
        replace(arm(method, "resnet14", "resnet8").run.lasting(2), data=data, teacher=teacher, precision="fp32")
        for method in ("ab", "fsp", "factor", "simkd", "catkd")
    ]
    folders = train(runs, Machine(precision="fp32"), tiny.conditions(tmp_path), Silent())
    stages = [[line["stage"] for line in record.Record(folder).metrics] for folder in folders]
    assert stages == [["initialisation", "train", "train"]] * 3 + [["train", "train"]] * 2
    assert [record.Record(folder).status for folder in folders] == ["finished"] * 5


def test_all_is_every_method_but_those_that_cannot_compare_the_pair():
    whole = [each.name for each in benchmark("all").arms]
    assert whole[:2] == ["labels", "kd"]
    assert len(whole) == len(set(whole)) == 39
    unlike = [each.name for each in benchmark("all", "wrn_40_2", "wrn_40_1").arms]
    assert set(whole) - set(unlike) == {"fsp"}
    linear = [each.name for each in benchmark("all", "mobilenet_v2", "resnet20").arms]
    assert set(whole) - set(linear) == {"fsp", "ofd"}
    told = recipes.find("cifar100:benchmark").__doc__ or ""
    listed = told.partition("One of")[2].partition("; or all,")[0].replace(" (FitNets)", "").replace(",", " ").split()
    assert sorted(listed) == sorted(whole[1:])


def test_layers_of_unlike_width_are_refused_by_the_dry_run():
    run = arm("fsp", "wrn_40_2", "wrn_40_1").run
    student, teacher = networks(run)
    (term,) = run.stages[0].terms
    dry = looks(student, term.student_taps, teacher, term.teacher_taps)
    with pytest.raises(UserError, match=r"^The term 'fsp' compares .* equal"):
        learn([term], nn.ModuleDict(), *dry, plan(teacher, student, 4, 100), 7)


def test_the_recipe_is_that_of_the_field():
    sweep = benchmark("dkd", "wrn_40_2", "shufflenet_v1")
    assert [each.name for each in (*sweep.teachers, *sweep.arms)] == ["teacher", "labels", "kd", "dkd"]
    assert sweep.seeds == (0, 1, 2)
    for each, rate in ((sweep.teachers[0], 0.05), *((other, 0.01) for other in sweep.arms)):
        (stage,) = each.run.stages
        assert stage.epochs == 240
        assert stage.optimizer.name == "SGD"
        assert stage.optimizer.learning_rate == rate
        assert stage.optimizer.options == {"momentum": 0.9, "weight_decay": 5e-4}
        assert stage.schedule == MultiStep(milestones=(150, 180, 210), gamma=0.1)
        assert each.run.batch_size == 64
        assert each.run.data.validation == 0
    assert arm("kd").run.stages[0].optimizer.learning_rate == 0.05
    short = recipes.find("cifar100:benchmark")(teacher_epochs=24)
    assert short.teachers[0].run.stages[0].schedule == MultiStep(milestones=(15, 18, 21), gamma=0.1)
    assert short.arms[0].run.epochs == 240


@pytest.mark.parametrize(
    ("pair", "epochs", "rate"),
    [
        (("resnet32x4", "resnet8x4"), 480, 0.025),
        (("vgg13", "vgg8"), 480, 0.01),
        (("resnet32x4", "shufflenet_v2"), 960, 0.01),
        (("wrn_40_2", "mobilenet_v2"), 480, 0.005),
    ],
)
def test_two_views_are_learned_from_for_longer(pair: tuple[str, str], epochs: int, rate: float):
    for each in (arm("mlkd", *pair), arm("mlkd+ls", *pair)):
        (stage,) = each.run.stages
        assert each.run.data.companion == "view"
        assert (each.run.epochs, stage.optimizer.learning_rate) == (epochs, rate)
        assert stage.schedule == MultiStep(milestones=(150, 180, 210), gamma=0.1)
    _, levels = arm("mlkd+ls", *pair).run.stages[0].terms
    assert encode(levels)["temperatures"] == [2.0, 2.0, 3.0, 5.0, 6.0]
    assert all(each.run.data.companion is None for each in benchmark("kd", *pair).arms)


def test_runs_are_shared_by_the_sweeps_of_one_pair():
    first, second = benchmark("kd"), benchmark("crd")
    assert [each.name for each in first.arms] == ["labels", "kd"]
    assert [fingerprint(each.run) for each in first.arms] == [fingerprint(each.run) for each in second.arms[:2]]


@pytest.mark.parametrize(
    ("method", "rate", "train"),
    [
        ("ab", 0.01, ("*",)),
        ("fsp", 0.01, ("*",)),
        ("factor", 0.01, ("learned.factor.*.paraphraser.*", "learned.factor.*.restorer.*")),
    ],
)
def test_an_initialisation_comes_first(method: str, rate: float, train: tuple[str, ...]):
    first, second = arm(method, "vgg13", "mobilenet_v2").run.stages
    assert (first.epochs, second.epochs) == (30, 240)
    assert first.schedule == Constant()
    assert first.optimizer.learning_rate == rate
    assert first.train == train
    assert [term.key for term in first.terms] == [method]
    assert [term.weight for term in first.terms] == [1.0]
    assert [term.key for term in second.terms] == (["labels", "factor"] if method == "factor" else ["labels"])


def test_the_paraphraser_learns_slowly_and_serves_the_second_stage():
    first, second = arm("factor").run.stages
    assert first.optimizer.learning_rate == 0.01
    assert second.optimizer.learning_rate == 0.05
    _, transfer = second.terms
    assert transfer.weight == 200
    assert encode(first.terms[0]) | {"phase": "transfer", "weight": 200.0} == encode(transfer)


def test_wider_networks_have_their_names():
    assert arm("kd", "resnet32x4", "shufflenet_v2x1.5").run.student == Network(
        "shufflenet_v2", 100, options={"width": 1.5}
    )
    assert arm("kd", "resnet32x4", "mobilenet_v2x2").run.student.options == {"width": 1.0}


@pytest.mark.parametrize("name", names())
def test_any_network_of_the_zoo_takes_part_or_is_refused(name: str):
    if name in ("mnist_mlp", "mnist_conv", "digits_mlp"):
        with pytest.raises(UserError, match=f"^The network '{name}' has fewer than three stages to compare; give one"):
            benchmark("kd", name, "resnet20")
    else:
        assert benchmark("kd", "resnet20", name).arms[-1].run.student.name == name


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "dkdd"}, r"^There is no method 'dkdd' in this benchmark; did you mean 'dkd'\?$"),
        ({"method": "FitNet"}, r"^There is no method 'FitNet' in this benchmark; did you mean 'hint'\?$"),
        ({"method": "AT"}, r"; did you mean 'attention'\?$"),
        ({"method": "nothing"}, r"in this benchmark; expected one of kd, .*, all\.$"),
        ({"student": "resnet8x5"}, r"^There is no network 'resnet8x5' in the own zoo; did you mean 'resnet8x4'\?$"),
        ({"teacher": "timm:vit"}, r"^There is no network 'timm:vit' in the own zoo; expected one of mnist_mlp, "),
    ],
)
def test_what_there_is_not_is_a_sentence(given: dict[str, str], sentence: str):
    with pytest.raises(UserError, match=sentence):
        recipes.find("cifar100:benchmark")(**given)
