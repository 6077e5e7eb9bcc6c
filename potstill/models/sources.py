"""From a network's name to an `nn.Module` with random weights.

Weights are drawn from torch's global generator: seed it before calling `build`.
"""

import copy
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from potstill.errors import UserError
from potstill.models.network import Network
from potstill.models.zoo import ZOO

_Options = Mapping[str, bool | int | float | str]

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")

# torchvision's Inceptions answer extra logits in training unless told not to, and warn unless told how to initialise.
_INCEPTIONS = {"googlenet", "inception_v3"}


def build(network: Network) -> nn.Module:
    """The network itself; for a given module, a copy of it.

    Raises:
        UserError: The name, or one of the options, means nothing; or the network cannot have these channels.
    """
    if network.module is not None:
        return copy.deepcopy(network.module)
    if network.initial is not None:
        raise UserError(
            f"Network {network.name!r} was given as a module, and a record keeps only its hash: "
            "pass the same module again with Network.given."
        )
    source, colon, name = network.name.partition(":")
    if not colon:
        return _from_zoo(network)
    if source == "torchvision":
        return _from_torchvision(network, name)
    if source == "timm":
        return _from_timm(network, name)
    if source == "hf":
        raise UserError(
            f"Network {network.name!r}: 'hf:' names cannot be built yet; use 'timm:', 'torchvision:' or Network.given."
        )
    return _from_import(network, source, name)


def _from_zoo(network: Network) -> nn.Module:
    constructor = ZOO.get(network.name)
    if constructor is None:
        raise UserError(
            f"There is no network {network.name!r}; {_nearest(network.name, ZOO)} "
            "Other sources are written 'torchvision:NAME', 'timm:NAME' or 'package.module:callable'."
        )
    parameters = dict(inspect.signature(constructor).parameters)
    del parameters["classes"], parameters["channels"]
    for option, value in network.options.items():
        if option not in parameters:
            raise _no_option(network.name, option, parameters)
        kind = parameters[option].annotation
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"Option {option!r} of {network.name} was given {value!r}; expected {kind.__name__}.")
    return constructor(classes=network.classes, channels=network.channels, **network.options)


def _from_torchvision(network: Network, name: str) -> nn.Module:
    from torchvision import models  # Over a second to import: only for those who ask for it.

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classification network {name!r}; {_nearest(name, known)}")
    if network.channels != 3:
        raise UserError(
            f"{network.name} reads 3 channels and was given {network.channels}: "
            f"repeat the channel in the data, or use 'timm:{name}' or a network of the own zoo."
        )
    fixed: _Options = {"num_classes": network.classes}
    usual: _Options = {"aux_logits": False, "init_weights": True} if name in _INCEPTIONS else {}
    constructor = models.get_model_builder(name)
    return _construct(network.name, constructor, fixed, {**usual, **network.options})


def _from_timm(network: Network, name: str) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise UserError(f"{network.name} needs timm, which is not installed: pip install potstill[timm]") from None
    if not timm.is_model(name):
        raise UserError(f"timm has no network {name!r}; {_nearest(name, timm.list_models())}")

    def constructor(**options: Any) -> nn.Module:
        return timm.create_model(name, **options)

    fixed: _Options = {"num_classes": network.classes, "in_chans": network.channels}
    return _construct(network.name, constructor, fixed, network.options)


def _construct(owner: str, constructor: Callable[..., nn.Module], fixed: _Options, options: _Options) -> nn.Module:
    """Calls a library's constructor and turns what it says against the options into a sentence."""
    for option in options:
        if option in fixed:
            raise UserError(f"Option {option!r} of {owner} follows from the data: leave it out.")
    try:
        return constructor(**fixed, **options)
    except TypeError as error:
        unexpected = _UNEXPECTED.search(str(error))
        if unexpected is None or unexpected[1] not in options:
            raise
        # Constructors pass their keywords on, so what is known is asked of the class that they end in.
        known = list(inspect.signature(type(constructor(**fixed))).parameters)
        raise _no_option(owner, unexpected[1], [name for name in known if name not in fixed]) from None
    except (ValueError, KeyError) as error:
        if not options:
            raise
        raise UserError(f"{owner} refuses its options {dict(options)}: {error}") from error


def _from_import(network: Network, module: str, name: str) -> nn.Module:
    """Calls what the user wrote with `classes` (or `num_classes`) where it takes that, and the options."""
    constructor = _imported(network.name, module, name)
    accepted = inspect.signature(constructor).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    arguments = dict(network.options)
    for option in arguments:
        if not anything and option not in accepted:
            raise _no_option(network.name, option, accepted)
    for word in ("classes", "num_classes"):
        if word in accepted or (anything and word == "classes"):
            if word in arguments:
                raise UserError(f"Option {word!r} of {network.name} follows from the data: leave it out.")
            arguments[word] = network.classes
            break
    built = constructor(**arguments)
    if not isinstance(built, nn.Module):
        raise UserError(f"{network.name} answered {type(built).__name__}; expected a torch.nn.Module.")
    return built


def _imported(owner: str, module: str, name: str) -> Callable[..., object]:
    """What stands under a user's name in a user's module."""
    try:
        found = importlib.import_module(module) if _is_path(module) else None
    except ModuleNotFoundError as error:
        raise UserError(f"Network {owner!r}: there is no module {error.name!r} to import.") from None
    if found is None:
        raise UserError(
            f"Network {owner!r}: expected a name of the own zoo, 'torchvision:NAME', 'timm:NAME' "
            "or 'package.module:callable'."
        )
    value: object = getattr(found, name, None)  # Also what a module hands out lazily.
    if not callable(value):
        known = [key for key, each in vars(found).items() if callable(each) and not key.startswith("_")]
        raise UserError(f"Network {owner!r}: module {module} has no callable {name!r}; {_nearest(name, known)}")
    return value


def _is_path(module: str) -> bool:
    return all(part.isidentifier() for part in module.split("."))


def _no_option(owner: str, option: str, known: Iterable[str]) -> UserError:
    return UserError(f"{owner} has no option {option!r}; {_nearest(option, known)}")


def _nearest(wrong: str, known: Iterable[str]) -> str:
    """How a sentence about a name that means nothing goes on."""
    names = [name for name in known if name != "self"]
    near = difflib.get_close_matches(wrong, names, n=3)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"it has {', '.join(names[:12])}{', …' if len(names) > 12 else ''}." if names else "it has none."
