"""What may be turned, and between which values: `temperature=1:16`, `rate=1e-4:1:log`, `method=kd,dkd`."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from potstill.errors import UserError

DIGITS = 4
"""Significant digits of a number that was drawn, so that the command that uses it can be read."""

TRUTH = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class Span:
    """Every number from `low` to `high`, both included; whole ones only if `whole`, evenly by factors if `log`."""

    name: str
    low: float
    high: float
    whole: bool = False
    log: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """Its two ends."""
        return self.value(self.low), self.value(self.high)

    def value(self, drawn: Any) -> Any:
        """A number that was drawn as the recipe gets it."""
        if self.whole:
            return int(drawn)
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """Some values, each by itself."""

    name: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def value(self, drawn: Any) -> Any:
        """One of them, as it is."""
        return drawn

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.values


Range = Span | Choice


def read(texts: Sequence[str], kinds: Mapping[str, Any], fixed: Sequence[str], recipe: str) -> tuple[Range, ...]:
    """What `--over` was given, each as a range.

    Args:
        texts: `NAME=LOW:HIGH`, `NAME=LOW:HIGH:log` or `NAME=a,b,c`.
        kinds: The type of every flag that may be turned, by its name.
        fixed: Flags that there are, but that change nothing that a run learns.
        recipe: What the recipe is called.

    Raises:
        UserError: one cannot be read, or names no such flag.
    """
    if not texts:
        raise UserError(f"Nothing is to be tuned; write --over NAME=LOW:HIGH, with one of {', '.join(kinds)}.")
    found = [_read(text, kinds, fixed, recipe) for text in texts]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--over {name} was given twice; give each flag one range.")
    return tuple(found)


def _read(text: str, kinds: Mapping[str, Any], fixed: Sequence[str], recipe: str) -> Range:
    written, equals, values = text.partition("=")
    name = written.strip().removeprefix("--").replace("-", "_")
    if name in fixed:
        raise UserError(
            f"--over {text}: --{name.replace('_', '-')} says how runs are made, not what they learn; tune one of "
            f"{', '.join(kinds)}."
        )
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(kinds)}."
        raise UserError(f"--over {text}: {recipe} has no flag {name!r}; {hint}")
    if not equals or not values:
        raise UserError(f"--over {text} gives no values; write {name}=LOW:HIGH, {name}=LOW:HIGH:log or {name}=A,B,C.")
    options = _options(kinds[name])
    if "," not in values and ":" in values and (float in options or int in options):
        return _span(text, name, values, whole=float not in options)
    return _choice(text, name, values, options)


def _span(text: str, name: str, values: str, *, whole: bool) -> Span:
    low, high, *rest = values.split(":")
    if rest not in ([], ["log"]):
        raise UserError(f"--over {text} ends in {':'.join(rest)!r}; expected LOW:HIGH, or LOW:HIGH:log.")
    try:
        ends = [int(end) if whole else float(end) for end in (low, high)]
    except ValueError:
        expected = "whole numbers" if whole else "numbers"
        raise UserError(f"--over {text}: expected two {expected}, as in {name}=LOW:HIGH.") from None
    if not all(math.isfinite(end) for end in ends) or ends[0] >= ends[1]:
        raise UserError(f"--over {text}: expected two numbers, the lower one first.")
    if rest and ends[0] <= 0:
        raise UserError(f"--over {text}: a range by factors (log) begins above 0.")
    return Span(name, ends[0], ends[1], whole=whole, log=bool(rest))


def _choice(text: str, name: str, values: str, options: Sequence[Any]) -> Choice:
    chosen = tuple(_one(text, word.strip(), options) for word in values.split(","))
    if len(set(chosen)) < len(chosen) or len(chosen) < 2:
        raise UserError(f"--over {text}: expected at least two values, each once, as in {name}=A,B,C.")
    return Choice(name, chosen)


def _one(text: str, word: str, options: Sequence[Any]) -> Any:
    """A word as the first of a flag's types that it fits."""
    words = {str(option): option for option in options if not isinstance(option, type)}
    if word in words:
        return words[word]
    if bool in options and word.lower() in TRUTH:
        return TRUTH[word.lower()]
    for kind in (int, float, str):
        if kind in options:
            try:
                return kind(word)
            except ValueError:
                continue
    known = {bool: "true or false", int: "a whole number", float: "a number"}
    expected = [*(known[kind] for kind in known if kind in options), *words]
    raise UserError(f"--over {text}: {word!r} is not {', or '.join(expected)}.")


def _options(kind: Any) -> tuple[Any, ...]:
    """The types and the literal values that a flag takes, but for None."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(option for part in get_args(kind) for option in _options(part))
    if get_origin(kind) is Literal:
        return get_args(kind)
    return () if kind is NoneType else (kind,)
