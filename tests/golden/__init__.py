"""Snapshots of what others build on: public names, verbs and flags, and the identity of every recipe's runs."""

import inspect
import json
import re
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import potstill
from potstill import recipes
from potstill.verbs.analyze import Analyze
from potstill.verbs.cache import Cache
from potstill.verbs.command import planned
from potstill.verbs.evidence import Compare, Plan
from potstill.verbs.flags import command_of
from potstill.verbs.listing import List
from potstill.verbs.report import Report
from potstill.verbs.tune import Tune
from potstill.verbs.watch import Watch

FOLDER = Path(__file__).parent


def public() -> list[str]:
    """What `import potstill` offers."""
    names = (name for name in dir(potstill) if not name.startswith("_"))
    return [name for name in names if getattr(getattr(potstill, name), "__module__", "").startswith("potstill.")]


def flags() -> dict[str, dict[str, str]]:
    """The flags of every command with their types and defaults."""
    commands = {f"run {name}": command_of(recipes.find(name)) for name in recipes.names()}
    fixed = {
        "cache": Cache,
        "list": List,
        "report": Report,
        "analyze": Analyze,
        "compare": Compare,
        "plan": Plan,
        "tune": Tune,
        "watch": Watch,
    }
    return {verb: _fields(kind) for verb, kind in {**commands, **fixed}.items()}


def fingerprints() -> dict[str, dict[str, str]]:
    """The identity of every arm of every recipe as it comes, with the recipe's first seed."""
    from potstill.run import fingerprint
    from potstill.verbs.flags import Flags

    found: dict[str, dict[str, str]] = {}
    for name in recipes.names():
        members = planned(recipes.find(name), {}, Flags()).members()
        arms: dict[str, str] = {}
        for member in members:
            arms.setdefault(f"{member.role} {member.arm.name}", f"seed {member.run.seed} {fingerprint(member.run)}")
        found[name] = arms
    return found


SNAPSHOTS = {"public": public, "flags": flags, "fingerprints": fingerprints}


def kept(name: str) -> Any:
    """A snapshot as it was written."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def _fields(kind: type) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default}"
        told[name] = f"{_named(parameter.annotation)}{default}"
    return told


def _named(annotation: Any) -> str:
    """A type as it is written, the same in every version of Python."""
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join("None" if part is type(None) else _named(part) for part in get_args(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(typing|pathlib)\.", "", str(annotation))
