"""Which network is meant, as plain data."""

import copy
import hashlib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from potstill.connect import Connector, Projector
from potstill.errors import UserError, expect_kind

# A change of these packages' sources is a change of version, which the record of a run keeps.
_PACKAGES = {"potstill", "timm", "torch", "torchvision"}


@dataclass(frozen=True, kw_only=True)
class ReusedHead:
    """A classifier that a network takes over from its teacher, behind a projector; it ships with both.

    Defang Chen, Jian-Ping Mei, Hailin Zhang, Can Wang, Yan Feng, Chun Chen: Knowledge Distillation with the Reused
    Teacher Classifier. CVPR 2022, arXiv:2203.14001. What follows the student's map is dropped; `SimKD` teaches the
    projector, whose tap is "projected".

    Attributes:
        student: The student's last map.
        teacher: The teacher's map that its classifier reads the mean of.
        projector: Makes the one into the other.
    """

    student: str = "stage3"
    teacher: str = "stage3"
    projector: Connector = Projector()


@dataclass(frozen=True)
class Network:
    """A network, named.

    Attributes:
        name: A name of the own zoo (`potstill.models.names`), "torchvision:NAME", "timm:NAME", or
            "package.module:callable"; for a given module, the name of its class.
        classes: How many logits it answers.
        channels: How many channels its images have.
        options: Keyword arguments of the constructor.
        reused: Where its classifier is its teacher's: how.
        module: The module itself, where the caller built it (`Network.given`).
        initial: For a given module, what identifies it: a hash of its weights and of the source of its classes.
    """

    name: str
    classes: int
    channels: int = 3
    options: dict[str, bool | int | float | str] = field(
        default_factory=dict[str, bool | int | float | str],
        hash=False,  # A dict has no hash; equal networks still have equal ones.
    )
    reused: ReusedHead | None = None
    module: nn.Module | None = field(default=None, compare=False, repr=False)
    initial: str | None = None

    @property
    def knows(self) -> bool:
        """Whether it comes with weights that were learned: a given module, or what its source is told to fetch."""
        return self.initial is not None or bool(self.options.get("pretrained") or self.options.get("weights"))

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise UserError(f"Network {self.name!r} was given {self.classes} classes; expected 2 or more.")
        if self.channels < 1:
            raise UserError(f"Network {self.name!r} was given {self.channels} channels; expected 1 or more.")

    @classmethod
    def given(cls, module: nn.Module, classes: int, channels: int = 3) -> Self:
        """A network that the caller built, as it stands now: what happens to `module` later does not reach it.

        Raises:
            UserError: It is no module or a scripted one, has parameters without a shape or values, or cannot be copied.
        """
        expect_kind(module, nn.Module, "Network.given was given", "a module with its weights loaded")
        name = type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(f"{name} is TorchScript, which shows nothing inside; give the module that it was made of.")
        if any(is_lazy(parameter) for parameter in module.parameters()):
            raise UserError(f"{name} has lazy parameters without a shape; run it once on a batch before giving it.")
        if any(parameter.is_meta for parameter in module.parameters()):
            raise UserError(f"{name} has parameters on the meta device, without values; load its weights first.")
        try:
            copied = copy.deepcopy(module)
        except (RuntimeError, TypeError) as error:  # Tensors that a graph computed; what cannot be pickled.
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{name} cannot be copied ({reason}); give a plain module with its weights loaded."
            ) from error
        return cls(name, classes, channels, module=copied, initial=identity_of(copied))


def identity_of(module: nn.Module) -> str:
    """32 hexadecimal digits from a module's structure, weights, buffers and attributes, and its classes' sources."""
    digest = hashlib.blake2b(repr(module).encode(), digest_size=16)
    for name, value in {**module.state_dict(), **dict(module.named_buffers()), **_attributes(module)}.items():
        told = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else _plain(value)
        digest.update(f"\x1f{name} {told}\x1f".encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        digest.update(f"\x1f{kind.__qualname__}\x1f{_source(kind)}".encode())
    return digest.hexdigest()


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What its parts hold beside parameters and buffers, as far as it is plain: numbers, words, tensors, functions."""
    own = {*vars(nn.Module()), "training"}
    return {
        f"{path}.{name}": told
        for path, part in cast(Iterable[tuple[str, nn.Module]], module.named_modules())
        for name, value in sorted(vars(part).items())
        if name not in own and (told := _plain(value)) is not None
    }


def _plain(value: object) -> Any:
    """A tensor as it is; of other plain things a text that is the same in every process; None for what is neither."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool | int | float | complex | str | torch.dtype):
        return repr(value)
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, tuple | list):
        parts = [_plain(part) for part in cast(Sequence[object], value)]
        return None if any(not isinstance(part, str) for part in parts) else repr(parts)
    if isinstance(value, dict):
        return _plain([*cast(dict[object, object], value).items()])
    return None


def _source(kind: type) -> str:
    """The source of a class that is the caller's own; empty where it cannot be had, as for one typed at a prompt."""
    if kind.__module__.partition(".")[0] in _PACKAGES:
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
