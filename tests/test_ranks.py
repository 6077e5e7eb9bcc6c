"""Training with several processes is training with one, for every kind of term."""

from collections.abc import Iterator
from pathlib import Path

import abreast
import pytest
import safetensors.torch
import tiny
import torch
from abreast import Crowd
from kills import KILLED

from potstill import checkpoint, ranks, record
from potstill.models import build
from potstill.seeds import fold

FAST = [
    *("KD", "Hint", "Attention", "Similarity", "RKD", "CRD", "DDGSD"),
    *("peers together", "peers in turn", "average", "past", "right", "norm", "drops"),
]
REST = [case for case in abreast.CASES if case not in FAST]


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    with Crowd() as crowd:
        yield crowd


@pytest.fixture(scope="module")
def fast(crowd: Crowd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert crowd.train(FAST, folder) == [0, 0]
    return folder


@pytest.fixture(scope="module")
def rest(crowd: Crowd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert crowd.train(REST, folder) == [0, 0]
    return folder


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def flat(tensors: dict[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    return torch.cat([tensors[name].double().flatten() for name in names])


def assert_near(case: str, two: Path, one: Path) -> None:
    """The weights of two processes are those of one, in the measure of what they are and of how far they moved."""
    (run,) = abreast.CASES[case]()
    torch.manual_seed(fold(run.seed, "student"))
    start = build(run.student).state_dict()
    ends = [safetensors.torch.load_file(folder / "student.safetensors") for folder in (one, two)]
    names = [name for name, value in ends[0].items() if name in start and value.is_floating_point()]
    want, found, before = (flat(weights, names) for weights in (*ends, start))
    assert (want - before).norm() > 1e-6 * want.norm()
    assert (found - want).norm() < 1e-5 * want.norm()
    assert (found - want).norm() < 1e-3 * (want - before).norm()
    told = [record.read(folder) for folder in (two, one)]
    for mine, theirs in zip(*(each.metrics for each in told), strict=True):
        for part in ("train", "validation"):
            # PKT's is a small difference of large numbers.
            assert mine[part]["loss"] == pytest.approx(theirs[part]["loss"], rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("case", [case for case in FAST if case in abreast.NEAR])
def test_two_processes_learn_what_one_does(case: str, fast: Path, tmp_path: Path):
    assert_near(case, only(fast / case), abreast.trained(case, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("case", REST)
def test_two_processes_learn_what_one_does_from_every_term(case: str, rest: Path, tmp_path: Path):
    assert_near(case, only(rest / case), abreast.trained(case, tmp_path))


def test_they_leave_what_one_leaves(fast: Path, tmp_path: Path):
    one, two = abreast.trained("KD", tmp_path), only(fast / "KD")
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert record.read(two).run == record.read(one).run
    assert record.read(two).environment["devices"] == 2
    assert record.read(one).environment["devices"] == 1
    mine, theirs = record.read(two).result, record.read(one).result
    assert mine is not None
    assert theirs is not None
    assert mine.keys() == theirs.keys()
    assert mine["bitwise"] is True
    assert mine["forwards_per_step"] == theirs["forwards_per_step"]


def test_statistics_of_batch_norm_are_the_mean_over_the_slices(fast: Path, tmp_path: Path):
    one = safetensors.torch.load_file(abreast.trained("norm", tmp_path) / "student.safetensors")
    two = safetensors.torch.load_file(only(fast / "norm") / "student.safetensors")
    assert two["bn1.num_batches_tracked"] == one["bn1.num_batches_tracked"] == 6
    for name, value in two.items():
        assert value.isfinite().all(), name
    # The first layer's inputs do not hang on what was learned: slices of 4 and 3 images weigh nearly alike.
    torch.testing.assert_close(two["bn1.running_mean"], one["bn1.running_mean"], rtol=0, atol=0.02)
    torch.testing.assert_close(two["bn1.running_var"], one["bn1.running_var"], rtol=0.05, atol=0)


def test_a_network_that_drops_learns(fast: Path):
    result = record.read(only(fast / "drops")).result
    assert result is not None
    assert result["status"] == "finished"


@pytest.fixture(scope="module")
def cut(crowd: Crowd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings killed after their fourth step of six."""
    folder = tmp_path_factory.mktemp("cut")
    for case in ("norm", "CRD"):
        assert crowd.train([case], folder, last=4) == [KILLED, KILLED]
    return folder


@pytest.mark.slow
def test_a_run_goes_on_bitwise_with_as_many(crowd: Crowd, cut: Path, fast: Path, tmp_path: Path):
    for case in ("norm", "CRD"):
        copy(cut / case, tmp_path / case)
    assert crowd.train(["norm", "CRD"], tmp_path) == [0, 0]
    for case in ("norm", "CRD"):
        assert tiny.told(only(tmp_path / case)) == tiny.told(only(fast / case))


def test_a_run_goes_on_with_one_and_says_so(cut: Path, fast: Path, tmp_path: Path):
    copy(cut / "CRD", tmp_path / "CRD")
    one = abreast.trained("CRD", tmp_path)
    found = record.read(one)
    assert found.environment["resumed"] == [{"step": 3, "differences": ["devices: 2 → 1"]}]
    assert found.result is not None
    assert found.result["bitwise"] is False
    assert_near("CRD", only(fast / "CRD"), one)


def copy(folder: Path, to: Path) -> None:
    (to / only(folder).name).mkdir(parents=True)
    for path in only(folder).iterdir():
        (to / only(folder).name / path.name).write_bytes(path.read_bytes())


def test_a_checkpoint_is_the_leaders_and_whole(cut: Path):
    found = checkpoint.read(only(cut / "CRD") / "checkpoint.safetensors")
    assert found is not None
    assert found[1]["at"]["step"] == 3


@pytest.mark.parametrize("count", [2, 3])
def test_what_processes_do_in_common(count: int, crowd: Crowd):
    assert crowd.check(count) == [0] * count


def test_slices_are_as_equal_as_can_be():
    assert ranks.slices(7, 2) == [4, 3]
    assert ranks.slices(8, 3) == [3, 3, 2]
    assert ranks.slices(1, 2) == [1, 0]


def test_alone_nothing_is_divided():
    def run(inputs: torch.Tensor, taps: tuple[str, ...]):
        raise AssertionError

    assert ranks.count() == 1
    assert ranks.leads()
    assert ranks.divided(run) is run
    assert ranks.agreed("so") == "so"
    assert ranks.after_leader(lambda: 3) == 3
