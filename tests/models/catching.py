"""A reading of tap paths by plain forward hooks, on purpose not the library's own."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def catch(module: nn.Module, taps: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """What stands at each tap in one pass; fails where a tap is missing, ambiguous or overwritten."""
    parts, seen = dict(module.named_modules()), {tap: [] for tap in taps}
    handles = []
    for tap, calls in seen.items():
        path = re.split("[:#]", tap)[0]
        if ":in" in tap:
            hook = lambda part, args, calls=calls: calls.append((args[0].clone(), 0))  # noqa: E731
            handles.append(parts[path].register_forward_pre_hook(hook))
        else:
            hook = lambda part, args, out, calls=calls: calls.append((out, out._version))  # noqa: E731
            handles.append(parts[path].register_forward_hook(hook))
    with torch.no_grad():
        module(images)
    for handle in handles:
        handle.remove()
    caught = {}
    for tap, calls in seen.items():
        number = int(tap.partition("#")[2] or 1)
        assert len(calls) == (number if "#" in tap else 1), tap
        caught[tap], version = calls[number - 1]
        assert caught[tap]._version == version, f"{tap} was overwritten"
    return caught


def shapes(module: nn.Module, aliases: dict[str, str], images: Tensor) -> dict[str, tuple[int, ...]]:
    """Alias to the shape of one image's activation."""
    caught = catch(module, set(aliases.values()), images)
    return {alias: tuple(caught[tap].shape[1:]) for alias, tap in aliases.items()}
