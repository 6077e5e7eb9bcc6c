"""What a figure was measured on, and what else the machine did meanwhile."""

import os
import re
from datetime import UTC, datetime
from typing import Any

from potstill.machine import DEFAULT_THREADS, Choices, Machine, cpu_flags, describe
from potstill.sweep import provenance


def here() -> Machine:
    """The machine under the rules of `auto`, for what says nothing of its size."""
    return Choices().resolve(mult_adds=0)


def slug() -> str:
    """The name of this machine's file: its CPU and threads, and its accelerator where there is one."""
    told = describe(here())
    names = [told["cpu"]["name"], f"{DEFAULT_THREADS} threads"]
    if told["device"] == "cuda":
        names.insert(1, told["device_name"])
    return "-".join(re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-") for name in names)


def conditions() -> dict[str, Any]:
    """CPU, flags, threads, load, versions and commit, at this moment."""
    told = describe(here())
    source = provenance("python -m benchmarks")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": told["cpu"]["name"],
        "cpu_flags": sorted(cpu_flags()),
        "cores": os.cpu_count(),
        "threads": DEFAULT_THREADS,
        "load": list(os.getloadavg()),
        "device": told["device"],
        "device_name": told["device_name"],
        "system": told["system"],
        "versions": told["versions"],
        "commit": source["commit"],
        "uncommitted_changes": source["uncommitted_changes"],
    }
