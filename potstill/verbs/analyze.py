"""The verb `analyze`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from potstill.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Analyze:
    """Look again at finished runs: pictures, what the teacher says, similarity of layers; a report then shows them.

    Attributes:
        runs: Sweep files, run folders, or folders of them.
        device: "auto" takes CUDA, else MPS, else the CPU.
        threads: CPU threads; None for PyTorch's own choice.
        quiet: Print nothing but mistakes.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = None
    quiet: bool = False


def analyze(words: list[str]) -> int:
    """`potstill analyze RUNS…`: do it."""
    flags = tyro.cli(Analyze, prog="potstill analyze", args=words)
    if not flags.runs:
        raise UserError(
            "No runs were named; give a sweep file such as runs/mnist-hinton.sweep.json, or the folder runs."
        )
    from potstill.analysis import analyze
    from potstill.machine import BIG_ENOUGH_FOR_THREADS, Choices

    choices = Choices(device=flags.device, threads=flags.threads, compile="off")
    machine = choices.resolve(BIG_ENOUGH_FOR_THREADS, "fp32", fold=False)

    def say(line: str) -> None:
        if not flags.quiet:
            print(line)

    done = analyze(flags.runs, machine, say)
    for sentence, runs in done.refused.items():
        others = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
        say(f"Left out: {', '.join(runs[:3])}{others}. {sentence}")
    if not done.written:
        say(f"Nothing is new: all that can be had of these {done.runs} runs is there.")
    say(f"potstill report {' '.join(str(path) for path in flags.runs)}")
    return 0
