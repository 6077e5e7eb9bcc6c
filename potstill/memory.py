"""How much memory students take, and how many of them go into what is free."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from potstill.learner import Learner
from potstill.machine import Machine
from potstill.rehearsal import key_of, rehearsed
from potstill.run import Run
from potstill.sweep import Group

SHARE = 0.5
"""Of the free memory, what students may take: data, teachers, evaluation and everybody else have the other half."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a student in training.

    Attributes:
        kept: From step to step: weights, statistics, what terms learn, and what the optimizer remembers.
        passing: During a step of it: gradients, and what the backward pass reads. The students of a cohort step one
            after another, so that of all of them only the largest counts.
    """

    kept: int
    passing: int


def together(several: Iterable[Footprint]) -> int:
    """Bytes of a cohort."""
    several = list(several)
    return sum(each.kept for each in several) + max((each.passing for each in several), default=0)


def free(device: str) -> int:
    """Bytes that a new process could take on a device; on the CPU no more than a container may."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    told = re.search(r"^MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    # Where the system does not tell what is free, half of all there is.
    found = int(told[1]) * 1024 if told else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit, used = _text("/sys/fs/cgroup/memory.max").strip(), _text("/sys/fs/cgroup/memory.current").strip()
    return min(found, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else found


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def room(device: str) -> int:
    """Bytes that students may take on a device."""
    return int(SHARE * free(device))


def divided(groups: Sequence[Group], room: Callable[[str], int] = room) -> list[Group]:
    """The same runs in cohorts that each fit into the memory of their device, or are of a single run.

    What a student learns does not depend on its company, so neither does it on the memory of a machine.

    Args:
        groups: Cohorts as large as can be.
        room: Bytes that students may take on a device.
    """
    parts: list[Group] = []
    for group in groups:
        limit = room(group.machine.device)
        members: list[Run] = []
        for run in group.runs:
            if members and need(Group((*members, run), group.machine)) > limit:
                parts.append(Group(tuple(members), group.machine))
                members = []
            members.append(run)
        parts.append(Group(tuple(members), group.machine))
    return parts


def need(group: Group) -> int:
    """Bytes of a cohort, by a step of each student on two images and on four."""
    return together(footprint(run, group.machine) for run in group.runs)


_found: dict[tuple[str, Machine], Footprint] = {}


def footprint(run: Run, machine: Machine) -> Footprint:
    """What a run takes in its first stage, measured on the CPU with untrained networks, once for all alike.

    Raises:
        UserError: what `rehearse` raises.
    """
    key = key_of(run), machine
    if key not in _found:
        with torch.random.fork_rng(devices=[]):
            _found[key] = _measured(run, machine)
    return _found[key]


def _measured(run: Run, machine: Machine) -> Footprint:
    training = rehearsed(run)
    learner = training.learner
    few, more = (_saved(learner, images, training.shape, machine) for images in (2, 4))
    an_image = (more - few) / 2
    moving = [parameter for parameter in learner.objective.parameters() if parameter.requires_grad]
    for parameter in moving:
        parameter.grad = torch.zeros_like(parameter)
    learner.optimizer.step()
    held = [*learner.objective.parameters(), *learner.objective.buffers(), *_remembered(learner)]
    if run.data.validation:  # The weights of the best epoch.
        held += learner.objective.student.state_dict().values()
    images = run.images_per_step / machine.devices
    return Footprint(_bytes(held), _bytes(moving) + round(few + (images - 2) * an_image))


def _saved(learner: Learner, images: int, shape: tuple[int, int, int], machine: Machine) -> int:
    """Bytes that the student and its peers keep of so many images for the backward pass, beyond their weights."""
    held: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return value

    objective = learner.objective
    own = {p.untyped_storage().data_ptr() for p in (*objective.parameters(), *objective.buffers())}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), machine.autocast_on("cpu"):
        # The graphs of all live until all are counted, or one's memory would be another's.
        answers = [network(torch.zeros(images, *shape)) for network in (objective.student, *objective.peers)]
    del answers
    return sum(size for place, size in held.items() if place not in own)


def _remembered(learner: Learner) -> list[Tensor]:
    states = learner.optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def _bytes(several: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in several)
