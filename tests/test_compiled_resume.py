"""Compiled for the CPU, a run that was killed and started again is bitwise the run that was not.

It trains in processes of its own, where types are not checked: what is compiled must be what users compile.
"""

from pathlib import Path

import pytest
import tiny
from kills import KILLED, Nursery


@pytest.mark.slow
def test_a_compiled_run_resumes_bitwise_after_a_partial_batch(tmp_path: Path):
    with Nursery() as nursery:
        assert nursery.train("SGD-fused-fp32", tmp_path / "whole", pause=1e9, compile=True) == 0
        # Step 5 is the partial batch; killed right after it the next process begins with it (the checkpoint was
        # written before it), and killed a step later with a whole batch.
        for kill, at in (("step", 5), ("step", 7), ("stage", 1)):
            assert nursery.train("SGD-fused-fp32", tmp_path / "killed", kill=kill, at=at, compile=True) == KILLED
        assert nursery.train("SGD-fused-fp32", tmp_path / "killed", compile=True) == 0
        assert nursery.train("SGD-fused-fp32", tmp_path / "eager", pause=1e9) == 0
    (whole,) = (tmp_path / "whole").iterdir()
    compiled = tiny.told(whole)
    assert tiny.told(tmp_path / "killed" / whole.name) == compiled
    # Fused kernels give other last bits than eager ones: it was compiled.
    assert tiny.told(tmp_path / "eager" / whole.name)["weights"] != compiled["weights"]
