"""Two runs against each other: McNemar and Newcombe against printed values, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import stats

from potstill.errors import UserError
from potstill.report.pair import lines, mcnemar, newcombe, pair, sentence, state

from .folders import Runs, know, predict

LABELS = [place % 10 for place in range(200)]


def test_mcnemar_of_a_printed_example():
    # Cavo et al. (2012), as in Fagerland, Lydersen and Laake (2013): 59, 6, 16, 80 give p = .0525 and mid-p = .0347.
    p, mid_p = mcnemar(6, 16)
    assert (p, mid_p) == (pytest.approx(0.0525, abs=5e-5), pytest.approx(0.0347, abs=5e-5))
    assert mcnemar(16, 6) == (p, mid_p)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (3, 3), (0, 9), (40, 61), (453, 21), (5000, 5100)])
def test_mcnemar_is_a_binomial_test_of_a_fair_coin(first: int, second: int):
    p, mid_p = mcnemar(first, second)
    n, least = first + second, min(first, second)
    assert p == pytest.approx(stats.binomtest(least, n).pvalue if n else 1.0, rel=1e-9)
    expected = 2 * stats.binom.cdf(least, n, 0.5) - stats.binom.pmf(least, n, 0.5)
    assert mid_p == pytest.approx(min(1.0, expected), rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe (1998), table II.
        ((1, 1, 7, 12), (-0.507, -0.026)),  # Bentur et al. (2009), in Fagerland, Lydersen and Laake (2014).
    ],
)
def test_newcombes_interval_of_printed_examples(counts: tuple[int, int, int, int], interval: tuple[float, float]):
    places = len(str(interval[1])) - 2
    assert newcombe(*counts) == pytest.approx(interval, abs=0.51 * 10**-3 if places < 5 else 0.51 * 10**-4)


@pytest.mark.parametrize("counts", [(9000, 0, 0, 1000), (10, 0, 0, 0), (0, 10, 0, 0), (0, 0, 0, 10), (5, 5, 0, 0)])
def test_newcombes_interval_at_the_edge(counts: tuple[int, int, int, int]):
    low, high = newcombe(*counts)
    difference = (counts[1] - counts[2]) / sum(counts)
    assert -1 <= low <= difference <= high <= 1 + 1e-12
    mirrored = newcombe(counts[0], counts[2], counts[1], counts[3])
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_newcombes_interval_holds_the_truth_in_ninety_five_of_a_hundred():
    shares = (0.90, 0.03, 0.02, 0.05)
    draws = np.random.default_rng(0).multinomial(2000, shares, size=2000).tolist()
    covered = sum(low <= 0.01 <= high for low, high in (newcombe(*counts) for counts in draws)) / len(draws)
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


def test_equal_networks_are_told_apart_in_less_than_five_of_a_hundred():
    draws = np.random.default_rng(1).multinomial(2000, (0.91, 0.02, 0.02, 0.05), size=2000).tolist()
    exact, mid = np.array([mcnemar(counts[1], counts[2]) for counts in draws]).T < 0.05
    assert 0.02 < exact.mean() < mid.mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def two(runs: Runs, first: range, second: range) -> tuple[Path, Path]:
    """Runs that are right on these images."""
    folders = runs.run("hard", 1, len(first) / 200), runs.run("soft", 2, len(second) / 200)
    for folder, right in zip(folders, (first, second), strict=True):
        know(folder, right, LABELS)
    return folders


def test_a_pair_is_counted_image_by_image(runs: Runs):
    found = pair(*two(runs, range(0, 160), range(20, 192)))
    assert (found.images, found.right, found.only, found.both) == (200, (160, 172), (20, 32), 140)
    assert found.difference == pytest.approx(-0.06)
    assert (found.low, found.high) == newcombe(140, 20, 32, 8)
    assert (found.p, found.mid_p) == mcnemar(20, 32)
    assert found.remarks == ()
    heads, cells = lines(found)
    assert heads == ["run", "test accuracy, %", "right", "right alone"]
    assert cells == [
        ["mnist-hinton-hard, seed 1", "80.00", "160", "20"],
        ["mnist-hinton-soft, seed 2", "86.00", "172", "32"],
    ]
    minus = "\N{MINUS SIGN}"
    low, high = (f"{100 * end:+.2f}".replace("-", minus) for end in (found.low, found.high))
    assert state(found) == (
        f"Of 200 images both are right on 140 and neither on 8. First minus second: {minus}6.00 points, 95 % interval "
        f"[{low}, {high}] (Newcombe, paired); McNemar exact p = .126, mid-p = .098."
    )
    assert sentence(found).startswith(
        "These 200 images do not decide between mnist-hinton-soft, seed 2 and mnist-hinton-hard, seed 1: +6.00 points "
    )


def test_the_better_network_is_named_and_no_method_is(runs: Runs):
    found = pair(*two(runs, range(0, 100), range(0, 192)))
    assert re_joined(sentence(found)).startswith(
        "On these 200 images mnist-hinton-soft, seed 2 is the better network: +46.00 points [+38."
    )
    assert sentence(found).endswith(
        "exact McNemar p < .001; about the methods behind the two it says nothing: that takes several seeds of each."
    )


def re_joined(text: str) -> str:
    return " ".join(text.split())


def test_where_test_and_interval_disagree_nothing_is_claimed(runs: Runs):
    found = pair(*two(runs, range(0, 180), range(10, 199)))
    assert (found.only, found.p < 0.05, found.high < 0) == ((10, 19), False, False)
    found = pair(*two_more(runs))
    assert found.only == (6, 16)
    assert found.p > 0.05
    assert found.high < 0
    assert sentence(found).startswith("These 200 images do not decide between ")
    assert "(test and interval do not agree)" in sentence(found)


def two_more(runs: Runs) -> tuple[Path, Path]:
    folders = runs.run("a", 1, 0.8), runs.run("b", 1, 0.85)
    for folder, right in zip(folders, (range(0, 160), range(6, 176)), strict=True):
        know(folder, right, LABELS)
    return folders


def test_runs_of_one_name_and_seed_are_told_by_their_folders(runs: Runs):
    folders = [runs.run("hard", 1, 0.5, spec={"more": place}) for place in (1, 2)]
    for folder in folders:
        know(folder, range(100), LABELS)
    assert pair(*folders).names == (folders[0].name, folders[1].name)


def test_a_tie_in_half_precision_is_remarked(runs: Runs):
    first, second = two(runs, range(0, 160), range(0, 172))
    path = first / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test_accuracy": 0.805}))
    assert pair(first, second).remarks == (
        f"{first.name} was measured at 80.50 %; its logits are kept in half precision, in which 80.00 % come out "
        "right.",
    )


def refused(first: Path, second: Path) -> str:
    with pytest.raises(UserError) as caught:
        pair(first, second)
    return str(caught.value)


def test_runs_that_cannot_be_compared_are_refused(runs: Runs, tmp_path: Path):
    first, second = two(runs, range(0, 160), range(0, 172))
    assert refused(first, first) == f"{first} and {first} are one and the same run; name two different ones."
    assert refused(first, tmp_path / "no") == f"{tmp_path / 'no'} does not exist; name two run folders."
    assert refused(tmp_path, second).startswith(f"{tmp_path} is not a run folder: it holds no readable run.json")
    other = runs.run("cifar", 1, 0.9, spec={"data": {"name": "cifar10"}})
    know(other, range(180), LABELS)
    assert refused(first, other) == (
        "The runs are of different data, mnist and cifar10; only runs of the same can be compared."
    )
    own = runs.run("own", 1, 0.9, spec={"data": {"name": "mnist", "content": "0123456789abcdef"}})
    know(own, range(180), LABELS)
    assert "of different data, mnist and mnist (0123456789ab); only" in refused(first, own)
    know(second, range(180), LABELS[::-1])
    assert refused(first, second) == (
        f"{first} and {second} were not tested on the same images, for their labels differ; only runs of the same test "
        "split can be compared."
    )
    know(second, range(90), LABELS[:100])
    assert "were not tested on the same images" in refused(first, second)


def test_runs_without_predictions_are_refused(runs: Runs):
    first, second = two(runs, range(0, 160), range(0, 172))
    path = second / "predictions.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert refused(first, second) == f"{path} is damaged: it cannot be read; delete the folder and run again."
    path.unlink()
    assert refused(first, second) == f"{path} is missing; delete the folder and run again."
    save_file({"labels": load_file(first / "predictions.safetensors")["labels"]}, path)
    assert refused(first, second) == (
        f"{path} is damaged: it holds no logits or no labels; delete the folder and run again."
    )
    truth = np.array(LABELS)
    predict(second, np.full((200, 10), np.nan), truth)
    assert refused(first, second).startswith(f"{path} is damaged: a logit is not a finite number; ")
    predict(second, np.zeros((200, 10)), truth + 5)
    assert refused(first, second).startswith(f"{path} is damaged: a label is none of its 10 classes; ")
    predict(second, np.zeros((199, 10)), truth)
    assert refused(first, second).startswith(f"{path} is damaged: its logits are (199, 10) and its labels (200,); ")
    result = second / "result.json"
    result.write_text(json.dumps({"status": "diverged"}))
    assert refused(first, second) == f"The run in {second} diverged, so there are no predictions to compare."
    result.unlink()
    assert refused(first, second) == f"The run in {second} is not finished, so there are no predictions to compare."
