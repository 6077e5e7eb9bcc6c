import subprocess
import sys

import numpy as np
import pytest

from potstill.seeds import fold


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ((0,), 6711488920161924273),
        ((42,), 3484694647126919093),
        ((-1,), 4378363081926956612),
        ((42, "order", 7), 3810915879279307219),
        ((42, "step", 123456), 6926555957643575743),
        ((2**63 - 1, "learned", "größe"), 428609918536338536),
    ],
)
def test_known_seeds_never_change(parts, value):
    # Another value here means that no run of an earlier version can be repeated.
    assert fold(*parts) == value


def test_every_part_matters_and_so_does_its_kind_and_place():
    purposes: list[tuple[str | int, ...]]
    purposes = [(), ("a",), ("b",), ("a", 0), ("a", "0"), (0, "a"), ("a0",), ("a", 0, 0), ("",)]
    assert len({fold(seed, *purpose) for seed in (1, 2) for purpose in purposes}) == 2 * len(purposes)
    assert fold(fold(1, "a"), "b") != fold(1, "a", "b")


def test_seeds_are_63_bits_that_look_random():
    seeds = np.array([fold(0, "step", step) for step in range(20_000)], dtype=np.uint64)
    assert len(np.unique(seeds)) == len(seeds)
    assert int(seeds.max()) < 2**63
    ones = ((seeds[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)).mean(0)
    assert np.abs(ones - 0.5).max() < 0.02  # Each of the 63 bits is set in half of them: 5.6 standard errors.


def test_seeds_need_no_torch():
    code = "import sys, potstill.seeds; print('torch' in sys.modules, potstill.seeds.fold(42, 'order', 7))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "3810915879279307219"]
