"""What the benchmark takes from published tables: weights and layers by pair, and accuracies to stand beside."""

from typing import Any

import pytest

from potstill import published, recipes
from potstill.codec import encode
from potstill.models import names
from potstill.sweep import Arm, Sweep


def benchmark(method: str, teacher: str = "resnet32x4", student: str = "resnet8x4") -> Sweep:
    sweep = recipes.find("cifar100:benchmark")(method=method, teacher=teacher, student=student)
    assert isinstance(sweep, Sweep)
    return sweep


def arm(method: str, *pair: str) -> Arm:
    return benchmark(method, *pair).arms[-1]


def terms(method: str, *pair: str) -> list[dict[str, Any]]:
    """The terms of the last stage, as plain data."""
    return [encode(term) for term in arm(method, *pair).run.stages[-1].terms]


WEIGHTS = {
    "kd": {"labels": 0.1, "kd": 0.9},
    "kd+ls": {"labels": 0.1, "kd": 9.0},
    "ctkd": {"labels": 0.1, "ctkd": 0.9},
    "dkd": {"labels": 1.0, "dkd": 1.0},
    "dkd+ls": {"labels": 1.0, "dkd": 9.0},
    "nkd": {"labels": 1.0, "nkd": 1.0},
    "wsld": {"labels": 1.0, "wsld": 2.25},
    "dist": {"labels": 1.0, "dist": 2.0},
    "ttm": {"labels": 1.0, "ttm": 45.0},
    "wttm": {"labels": 1.0, "wttm": 4.0},
    "wttm+crd": {"labels": 1.0, "wttm": 4.0, "crd": 0.8},
    "ofa": {"labels": 1.0, "ofa": 1.0},
    "rld": {"labels": 1.0, "rld": 1.0},
    "mlkd": {"labels": 0.2, "mlkd": 0.9},
    "mlkd+ls": {"labels": 0.2, "mlkd": 9.0},
    "hint": {"labels": 1.0, "hint": 100.0},
    "attention": {"labels": 1.0, "attention": 1000.0},
    "nst": {"labels": 1.0, "nst": 50.0},
    "vid": {"labels": 1.0, "vid": 1.0},
    "ofd": {"labels": 1.0, "ofd": 1e-3},
    "review": {"labels": 1.0, "review": 5.0},
    "simkd": {"simkd": 1.0},
    "srrl": {"labels": 1.0, "kd": 1.0, "srrl": 1.0},
    "semckd": {"labels": 1.0, "kd": 1.0, "semckd": 400.0},
    "catkd": {"labels": 1.0, "catkd": 15.0},
    "mgd": {"labels": 1.0, "mgd": 7e-5},
    "afd": {"labels": 0.1, "kd": 0.9, "afd": 200.0},
    "ickd": {"labels": 1.0, "ickd": 2.5},
    "similarity": {"labels": 1.0, "similarity": 3000.0},
    "correlation": {"labels": 1.0, "correlation": 0.02},
    "cckernel": {"labels": 1.0, "cckernel": 0.02},
    "rkd": {"labels": 1.0, "rkd": 1.0},
    "pkt": {"labels": 1.0, "pkt": 30000.0},
    "crd": {"labels": 1.0, "crd": 0.8},
    "crd+kd": {"labels": 1.0, "kd": 1.0, "crd": 0.8},
    "ab": {"labels": 1.0},
    "fsp": {"labels": 1.0},
    "factor": {"labels": 1.0, "factor": 200.0},
}


def test_every_method_has_its_published_weights():
    found = {
        each.name: {term.key: term.weight for term in each.run.stages[-1].terms}
        for each in benchmark("all").arms
        if each.name != "labels"
    }
    assert found == WEIGHTS
    assert [terms("kd")[1]["temperature"], terms("crd+kd")[1]["temperature"]] == [4.0, 4.0]
    assert [terms("rkd")[1][part] for part in ("distance", "angle")] == [25.0, 50.0]
    assert [terms("dkd")[1]["warmup"], terms("review")[1]["warmup"], terms("rld")[1]["warmup"]] == [20.0] * 3


@pytest.mark.parametrize(
    ("method", "pair", "expected"),
    [
        ("dkd", ("resnet32x4", "shufflenet_v2"), {"beta": 8.0}),
        ("dkd", ("resnet50", "mobilenet_v2"), {"beta": 8.0}),
        ("dkd", ("vgg13", "mobilenet_v2"), {"beta": 6.0}),
        ("dkd", ("resnet110", "resnet32"), {"beta": 2.0}),
        ("dkd+ls", ("vgg13", "vgg8"), {"beta": 8.0, "temperature": 2.0, "standardize": True}),
        ("dkd+ls", ("resnet56", "resnet20"), {"beta": 2.0, "weight": 9.0}),
        ("kd+ls", ("resnet56", "resnet20"), {"temperature": 2.0, "weight": 9.0, "standardize": True}),
        ("kd+ls", ("vgg13", "vgg8"), {"temperature": 3.0, "weight": 9.0}),
        ("kd+ls", ("resnet110", "resnet20"), {"temperature": 4.0, "weight": 12.0}),
        ("kd+ls", ("resnet50", "mobilenet_v2"), {"temperature": 3.0, "weight": 1.0}),
        ("review", ("resnet32x4", "shufflenet_v2"), {"weight": 8.0}),
        ("review", ("resnet56", "resnet20"), {"weight": 0.6}),
        ("review", ("resnet110", "resnet32"), {"weight": 1.0}),
        ("catkd", ("wrn_40_2", "wrn_40_1"), {"weight": 1.5, "resolution": 2, "normalise": False}),
        ("catkd", ("resnet32x4", "shufflenet_v1"), {"weight": 600.0, "resolution": 4, "normalise": True}),
        ("catkd", ("resnet50", "mobilenet_v2"), {"weight": 40.0, "resolution": 2, "normalise": True}),
        ("catkd", ("resnet44", "resnet14"), {"weight": 15.0, "resolution": 2, "normalise": False}),
    ],
)
def test_weights_follow_the_pair(method: str, pair: tuple[str, str], expected: dict[str, Any]):
    term = terms(method, *pair)[-1]
    assert {name: term[name] for name in expected} == expected


def test_layers_are_those_of_the_tables():
    assert terms("hint", "resnet50", "vgg8")[1]["student"] == ["stage2"]
    four = terms("attention", "resnet50", "mobilenet_v2")[1]
    assert four["student"] == ["stage1", "stage2", "stage3", "stage4"]
    fewer = terms("attention", "resnet32x4", "vgg8")[1]
    assert fewer["student"] == ["stage1", "stage2", "stage3"]
    assert terms("similarity", "resnet32x4", "vgg8")[1]["student"] == ["stage4"]
    wide = terms("attention", "wrn_40_2", "shufflenet_v1")[1]
    assert wide["teacher"] == ["stage1.sum", "stage2.sum", "stage3.sum"]
    assert terms("ofd", "vgg13", "mobilenet_v2")[1]["student"] == ["stage1", "stage2", "stage3", "stage4"]
    assert terms("ofd", "wrn_40_2", "resnet20")[1]["teacher"] == ["stage1.pre", "stage2.pre", "stage3.pre"]
    assert terms("semckd", "resnet32x4", "vgg8")[2]["student"] == ["stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize(
    ("method", "pair", "expected"),
    [
        ("kd", ("resnet32x4", "resnet8x4"), 0.7333),
        ("hint", ("resnet56", "resnet20"), 0.6921),
        ("attention", ("vgg13", "mobilenet_v2"), 0.5940),
        ("similarity", ("resnet110", "resnet32"), 0.7269),
        ("correlation", ("wrn_40_2", "shufflenet_v1"), 0.7138),
        ("fsp", ("vgg13", "vgg8"), 0.7023),
        ("fsp", ("wrn_40_2", "wrn_40_1"), None),
        ("ofd", ("resnet110", "resnet20"), None),
        ("review", ("wrn_40_2", "wrn_40_1"), 0.7509),
        ("crd", ("resnet50", "mobilenet_v2"), 0.6911),
        ("dkd", ("resnet50", "vgg8"), 0.7534),
        ("wttm+crd", ("resnet110", "resnet32"), 0.7452),
        ("ttm", ("wrn_40_2", "wrn_16_2"), 0.7623),
        ("ctkd", ("vgg13", "vgg8"), 0.7352),
        ("kd+ls", ("wrn_40_2", "resnet8x4"), 0.7711),
        ("dkd+ls", ("resnet32x4", "wrn_40_2"), 0.7895),
        ("dkd+ls", ("resnet32x4", "shufflenet_v2"), 0.7737),
        ("simkd", ("resnet32x4", "resnet8x4"), 0.7808),
        ("simkd", ("resnet32x4", "shufflenet_v2x1.5"), 0.7954),
        ("srrl", ("resnet32x4", "vgg8"), 0.7323),
        ("semckd", ("wrn_40_2", "mobilenet_v2"), 0.6961),
        ("rld", ("resnet110", "resnet32"), 0.7402),
        ("mlkd", ("wrn_40_2", "wrn_40_1"), 0.7535),
        ("mlkd", ("vgg13", "mobilenet_v2"), 0.7057),
        ("mlkd+ls", ("wrn_40_2", "resnet8x4"), 0.7768),
        ("mgd", ("resnet32x4", "resnet8x4"), None),
        ("crd", ("resnet44", "resnet14"), None),
    ],
)
def test_published_values_stand_beside(method: str, pair: tuple[str, str], expected: float | None):
    assert arm(method, *pair).published == expected


def test_teachers_and_labels_have_published_values_too():
    sweep = benchmark("crd", "resnet50", "mobilenet_v2")
    assert [each.published for each in (*sweep.teachers, *sweep.arms)] == [0.7934, 0.6460, 0.6735, 0.6911]
    sweep = benchmark("crd", "resnet44", "resnet14")
    assert [each.published for each in (*sweep.teachers, *sweep.arms)] == [None] * 4
    assert published.accuracy_from_labels("wrn_16_2") == 0.7326


def test_rows_of_the_tables_are_as_long_as_their_heads():
    for pairs, rows in published._TABLES:
        assert all(len(row) == len(pairs) for row in rows.values())
        assert set(rows) <= set(WEIGHTS)
        assert {name for pair in pairs for name in pair} <= {*names(), "shufflenet_v2x1.5"}
