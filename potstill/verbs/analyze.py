"""The verb `analyze`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from potstill.errors import UserError
from potstill.verbs.named import named


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
    runs = named(flags.runs)
    from potstill.analysis import analyze
    from potstill.machine import BIG_ENOUGH_FOR_THREADS, Choices

    choices = Choices(device=flags.device, threads=flags.threads, compile="off")
    machine = choices.resolve(BIG_ENOUGH_FOR_THREADS, "fp32", fold=False)

    def say(line: str) -> None:
        if not flags.quiet:
            print(line)

    done = analyze(runs, machine, say)
    for sentence, refused in done.refused.items():
        others = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        say(f"Left out: {', '.join(refused[:3])}{others}. {sentence}")
    if not done.runs:
        raise UserError("There is no finished student to look at; name a sweep or a folder that has one.")
    if not done.written:
        say(f"Nothing is new: all that can be had of these {done.runs} runs is there.")
    say(f"potstill report {' '.join(str(path) for path in runs)}")
    return 0
