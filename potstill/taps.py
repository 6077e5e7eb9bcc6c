"""Taps: named activations of any `nn.Module`, caught by hooks that live for one forward pass.

A tap is written as a `named_modules()` path of the unwrapped network, or as an alias of such a path:

    layer1.0.relu        the output of the module, which must be called exactly once in a pass
    layer1.0.relu:in     a clone of its first positional input, taken before the module runs
    layer1.0.relu#2      the output of its second call
    layer1.0.relu:in#2   the input of its second call

Whatever would make a tap lie is refused with a `UserError`: a path that does not exist, a module that was not
called, one that was called more often than the tap says, a value that is no tensor, and a tensor that the network
overwrites in place later in the same pass.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch._functorch import config as partition  # pyright: ignore[reportPrivateUsage]
from torch.utils.hooks import RemovableHandle

from potstill.errors import UserError
from potstill.folding import BatchNorm2d
from potstill.types import Trace

_GRAMMAR = re.compile(r"(?P<path>[^:#]*)(?P<input>:in)?(#(?P<call>[1-9][0-9]*))?")


@dataclass(frozen=True)
class _Tap:
    """One tap as it was asked for (`name`) and what it stands for."""

    name: str
    path: str
    takes_input: bool
    call: int | None

    def at(self, call: int) -> str:
        """The same tap, narrowed to one call."""
        return f"{self.path}{':in' if self.takes_input else ''}#{call}"

    @property
    def place(self) -> int:
        """Which call is wanted, counted from 0."""
        return (self.call or 1) - 1

    def __str__(self) -> str:
        spelled = f"{self.path}{':in' if self.takes_input else ''}{f'#{self.call}' if self.call else ''}"
        return f"tap {self.name!r}" if self.name == spelled else f"tap {self.name!r} ({spelled!r})"


@dataclass(frozen=True)
class _Catch:
    """What one tap caught in one pass: one entry per call of its module, None for the calls it does not want."""

    tap: _Tap
    calls: list[tuple[Any, int] | None] = field(default_factory=list[tuple[Any, int] | None])

    def hook(self, module: nn.Module) -> RemovableHandle:
        """Starts to catch; the handle ends it."""
        if self.tap.takes_input:
            return module.register_forward_pre_hook(self._before)
        return module.register_forward_hook(self._after)

    def overwritten(self) -> bool:
        """Whether the network wrote into what was caught, after it was caught."""
        place = self.tap.place
        entry = self.calls[place] if place < len(self.calls) else None
        # Not `!=`: where a compiled network is cut in several graphs, counting starts again at each cut.
        return entry is not None and _version(entry[0]) > entry[1]

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook: catches a clone, because the module may overwrite its input."""
        value = args[0] if args else None
        self._add(value.clone() if isinstance(value, Tensor) and len(self.calls) == self.tap.place else value)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook: catches what the module gives."""
        self._add(output)

    def _add(self, value: Any) -> None:
        self.calls.append((value, _version(value)) if len(self.calls) == self.tap.place else None)


@final
class Tracer:
    """A network together with a way to run it and see inside; it holds the network without being an `nn.Module`."""

    def __init__(self, net: nn.Module, aliases: Mapping[str, str], run: Callable[..., tuple[Any, list[bool]]]):
        self._net = net
        self._aliases = dict(aliases)
        self._run = run

    def __call__(self, inputs: Tensor, taps: Sequence[str] = ()) -> Trace:
        """Runs the network once, in whatever mode it is in.

        Args:
            inputs: (N, C, H, W).
            taps: What to catch on the way; every pass checks that exactly this came back, compiled or not.

        Returns:
            The logits, and the activations by the names in `taps`.

        Raises:
            UserError: A tap would lie (see the module's docstring), or the network writes into `inputs` or gives no
                single tensor.
        """
        catches = [_Catch(self._resolve(name)) for name in dict.fromkeys(taps)]
        if catches and torch.is_inference_mode_enabled():
            raise UserError("taps cannot be checked under torch.inference_mode(): run the pass under torch.no_grad().")
        handles: list[RemovableHandle] = []
        try:
            for catch in catches:
                handles.append(catch.hook(self._net.get_submodule(catch.tap.path)))
            counted = not inputs.is_inference()  # Nobody counts how often these are written.
            before = _version(inputs) if counted else 0
            logits, overwritten = self._run(self._net, inputs, catches)
        finally:
            for handle in handles:
                handle.remove()
        if counted and _version(inputs) != before:
            raise UserError(
                f"{self._kind} writes into the images that it is given, which others are shown too: let it make a new "
                "tensor, as in x = x - mean, and begin with no activation that has inplace=True."
            )
        if not isinstance(logits, Tensor):
            raise UserError(
                f"{self._kind} gives a {type(logits).__name__} where one tensor of logits (N, K) is expected: "
                "wrap it in a module whose forward returns the logits alone."
            )
        return Trace(
            logits, {catch.tap.name: _told(catch, lost) for catch, lost in zip(catches, overwritten, strict=True)}
        )

    def check(self, taps: Sequence[str]) -> None:
        """Raises `UserError` for the first of `taps` that names no module, without running the network."""
        for name in taps:
            self._resolve(name)

    @property
    def _kind(self) -> str:
        return type(self._net).__name__

    def _resolve(self, name: str) -> _Tap:
        """The tap behind a name; the network itself is reached by an alias to '' only."""
        spelled = self._aliases.get(name, name)
        parts = _GRAMMAR.fullmatch(spelled)
        if parts is None:
            raise UserError(
                f"{spelled!r} is no tap: write the path of a module, then ':in' for its input and '#2' for its second "
                "call, as in 'layer1.0.relu:in#2'."
            )
        path = parts["path"]
        try:
            self._net.get_submodule(path)
            known = path != "" or name in self._aliases
        except AttributeError:
            known = False
        if not known:
            modules = cast(Iterable[tuple[str, nn.Module]], self._net.named_modules())
            others = (alias for alias in self._aliases if alias != name)
            near = _near([path], [*others, *(path for path, _ in modules if path)])
            alias = f"alias {name!r} stands for " if name in self._aliases else ""
            raise UserError(f"{alias}tap {spelled!r}, but {self._kind} has no module {path!r}{near}")
        if parts["input"] and isinstance(self._net.get_submodule(path), BatchNorm2d):
            raise UserError(
                f"tap {spelled!r} lies between a convolution and the batch norm that was folded into it: tap the "
                "output of the batch norm, or give the run fold=False."
            )
        return _Tap(name, path, parts["input"] is not None, int(parts["call"]) if parts["call"] else None)


def trace(net: nn.Module, *, aliases: Mapping[str, str] = MappingProxyType({}), compile: bool = False) -> Tracer:
    """A way to run `net` and see inside it.

    Args:
        net: Any network, not wrapped by `torch.compile`, DDP or the like; it is never edited.
        aliases: Short names for taps: `{"stage1": "layer1", "all": ""}` ('' is the network itself).
        compile: Whether passes run through `torch.compile`; this is the only place that compiles.
    """
    if not compile:
        return Tracer(net, aliases, _run)
    on_cpu = all(parameter.device.type == "cpu" for parameter in net.parameters())
    return Tracer(net, aliases, _compiled("inductor", on_cpu))


def _run(net: nn.Module, inputs: Tensor, catches: Sequence[_Catch]) -> tuple[Any, list[bool]]:
    """One forward pass with the hooks in place: what the network gives, and which catches it overwrote."""
    output = net(inputs)
    return output, [catch.overwritten() for catch in catches]


def _compiled(backend: str | Callable[..., Any], on_cpu: bool = True) -> Callable[..., tuple[Any, list[bool]]]:
    """The same pass through `torch.compile`; all networks of one class, taps and shape share what it compiles.

    Hooks are traced into the graph. They are guarded by what they do, not by who they are, so hooks set anew for
    every pass cost no compilation. Dynamo looks at hooks at all only where `skip_nnmodule_hook_guards` is off: left on,
    what was compiled for some taps may answer for others, whose hooks then do not run.

    What cannot be compiled runs eagerly, and torch warns of it: nobody need have asked for compilation.

    On a CPU the backward pass computes anew whatever is no reduction, convolution or product: torch would keep masks of
    tapped ReLUs for it, and writing them can cost as much as the rest of the network.

    Dynamo counts versions as it traces, so a tap overwritten in place within one graph is refused as in an eager pass.
    Across a graph break it is not seen; there the dry run, which is eager, is what refuses the tap.
    """
    config = torch._dynamo.config  # pyright: ignore[reportPrivateUsage]
    config.skip_nnmodule_hook_guards = False
    # One compilation per class of network, taps, mode and shape; past the limit passes would silently be eager.
    config.recompile_limit = max(config.recompile_limit, 1024)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 8192)
    config.suppress_errors = True
    partition.aggressive_recomputation = on_cpu
    return torch.compile(_run, backend=backend, dynamic=False)


def match(names: Iterable[str], globs: Sequence[str], what: str) -> list[str]:
    """Those of `names` that any of `globs` selects, in their own order.

    Args:
        names: What there is to select from, such as the names of parameters.
        globs: Patterns as in `fnmatch`, compared with case.
        what: What the names are, in the plural, for the sentence of the error.

    Raises:
        UserError: Some glob selects nothing.
    """
    known = list(names)
    idle = [glob for glob in globs if not any(fnmatchcase(name, glob) for name in known)]
    if idle:
        meant = [glob.rstrip(".*") for glob in idle]
        heads = dict.fromkeys(".".join(name.split(".")[: word.count(".") + 1]) for word in meant for name in known)
        raise UserError(f"no {what} match {' or '.join(map(repr, idle))}{_near(meant, heads)}")
    return [name for name in known if any(fnmatchcase(name, glob) for glob in globs)]


def _version(value: Any) -> int:
    """How often a tensor has been written in place."""
    return value._version if isinstance(value, Tensor) else 0  # pyright: ignore[reportPrivateUsage]


def _near(wrong: Iterable[str], known: Iterable[str]) -> str:
    """How a sentence about names that do not exist ends."""
    names = list(known)
    near = dict.fromkeys(name for word in wrong for name in difflib.get_close_matches(word, names))
    if near:
        return f": did you mean {' or '.join(map(repr, near))}?"
    return f": there are {', '.join(map(repr, names[:8]))}{', …' if len(names) > 8 else ''}."


def _told(catch: _Catch, overwritten: bool) -> Tensor:
    """The tensor that a pass caught for a tap, once nothing speaks against it."""
    tap, count = catch.tap, len(catch.calls)
    if count == 0:
        raise UserError(f"{tap} never fired: its module was not called in this pass; tap a module that is.")
    if tap.call is None and count > 1:
        raise UserError(
            f"{tap} fired {count} times in one pass: say which call is meant, from {tap.at(1)!r} to {tap.at(count)!r}."
        )
    if tap.place >= count:
        raise UserError(f"{tap} never fired: the last call of its module in this pass is {tap.at(count)!r}.")
    value, _ = catch.calls[tap.place] or (None, 0)
    if not isinstance(value, Tensor):
        what = "first positional input" if tap.takes_input else "output"
        raise UserError(
            f"{tap} caught no tensor: the {what} of its module is a {type(value).__name__}; tap a module within it or "
            "beside it that has one tensor there."
        )
    if overwritten:
        raise UserError(
            f"{tap} was overwritten in place later in the same pass (by an activation with inplace=True, or by +=): "
            "tap the input of the module that does it with ':in', or another module."
        )
    return value
