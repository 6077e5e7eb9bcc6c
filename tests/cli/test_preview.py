"""How long a plan says that runs take."""

from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from potstill.machine import Choices
from potstill.models.parts import Chain
from potstill.sweep import Arm, Sweep
from potstill.verbs.preview import TRIED_STEPS, describe


@pytest.mark.parametrize(("name", "passes"), [("peers", {4: 2, 6: 1}), ("views", {4: 1})])
def test_an_estimate_takes_steps_of_the_peers_and_of_whole_batches(name: str, passes: dict[int, int], tmp_path: Path):
    """`passes`: how many networks of each width."""
    (run,) = tiny.TAUGHT[name]()
    seen: Counter[int] = Counter()

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: object) -> None:
        if isinstance(module, Chain) and module.training and len(inputs[0]) == run.images_per_step:
            seen[next(module.parameters()).shape[0]] += 1

    with nn.modules.module.register_module_forward_hook(count):
        describe("tiny", Sweep(arms=(Arm(name=name, run=run),), seeds=(7,)), Choices(), tmp_path)
    assert seen == {width: count * (TRIED_STEPS + 1) for width, count in passes.items()}
