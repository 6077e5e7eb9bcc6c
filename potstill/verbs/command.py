"""What a command about a recipe asks for: the recipe, its sweep, and how and where it is carried out."""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import tyro

from potstill import recipes
from potstill.errors import UserError
from potstill.verbs.flags import Flags, command_of

Common = TypeVar("Common", bound=Flags)


def parse(
    verb: str, words: list[str], kind: type[Common] = Flags
) -> tuple[str, recipes.Recipe, dict[str, Any], Common]:
    """The recipe that was named, its own arguments, and the common flags or those of one verb.

    Raises:
        UserError: no recipe was named, or there is none of that name.
    """
    if not words or words[0].startswith("-"):
        help_wanted = bool(words) and words[0] in ("-h", "--help")
        if help_wanted:
            tyro.cli(kind, prog=f"potstill {verb} RECIPE", args=["--help"])
        raise UserError(
            f"No recipe was named; write `potstill {verb} RECIPE`, with one of {', '.join(recipes.names())}."
        )
    name = words[0]
    recipe = recipes.find(name)
    command = command_of(recipe, kind)
    parsed = tyro.cli(command, prog=f"potstill {verb} {name}", args=words[1:])
    own = {p: getattr(parsed, p) for p in inspect.signature(recipe).parameters}
    common = {f.name: getattr(parsed, f.name) for f in fields(kind)}
    return name, recipe, own, kind(**common)


def title(recipe: recipes.Recipe, name: str) -> str:
    """The first line of what a recipe says of itself."""
    return (inspect.getdoc(recipe) or recipes.label(name)).splitlines()[0]


def planned(recipe: recipes.Recipe, given: dict[str, Any], flags: Flags) -> Any:
    """The sweep that a recipe returns, with the common flags applied to its students."""
    from dataclasses import replace

    from potstill.sweep import as_sweep

    sweep = as_sweep(recipes.ask(recipe, given))
    if flags.controls:
        from potstill.controls import with_controls

        sweep = with_controls(sweep)
    if flags.seed is not None and flags.seeds is not None:
        raise UserError("--seed and --seeds were both given; --seed 3 means that one, --seeds 3 means three of them.")
    if flags.seed is not None:
        sweep = replace(sweep, seeds=(flags.seed,))
    if flags.seeds is not None:
        if flags.seeds < 1:
            raise UserError(f"--seeds is {flags.seeds}; expected a whole number ≥ 1.")
        sweep = replace(sweep, seeds=tuple(range(sweep.seeds[0], sweep.seeds[0] + flags.seeds)))
    return _changed(sweep, flags)


def _changed(given: Any, flags: Flags) -> Any:
    """The sweep with what the flags say of each of its runs."""
    from dataclasses import replace

    from potstill.sweep import Sweep

    sweep: Sweep = given
    if flags.epochs is not None:
        epochs = flags.epochs
        sweep = sweep.each(lambda run: run.lasting(epochs))
    if flags.views in ("shared", "per-seed"):
        sweep = sweep.each(lambda run: replace(run, data=replace(run.data, sharing=flags.views)))
    elif flags.views is not None:
        views = number("views", flags.views, 'expected "shared", "per-seed", or a whole number ≥ 1')
        sweep = sweep.each(lambda run: replace(run, data=replace(run.data, views=views)))
    if flags.companion is not None:
        sweep = sweep.each(lambda run: replace(run, data=replace(run.data, companion=flags.companion)))
    if flags.precision is not None:
        sweep = sweep.each(lambda run: replace(run, precision=flags.precision))
    if flags.deterministic:
        sweep = sweep.each(lambda run: replace(run, deterministic=True))
    return sweep


def conditions(command: str, flags: Flags) -> Any:
    """What the flags say of where and how runs are written."""
    from potstill.cohort import Conditions
    from potstill.live.outlets import chosen
    from potstill.store.storage import size_of
    from potstill.sweep import provenance

    return Conditions(
        runs_dir=flags.runs_dir,
        teacher_at_least=_share(flags.teacher_at_least),
        store=size_of(flags.store),
        environment=provenance(command),
        outlets=chosen(flags.events == "on", flags.logger),
    )


def choices(flags: Flags) -> Any:
    """What the flags ask of the machine."""
    from potstill.machine import Choices

    threads, devices = number("threads", flags.threads), number("devices", flags.devices)
    return Choices(device=flags.device, threads=threads, compile=flags.compile, devices=devices)


def without(flags: Collection[str], words: Sequence[str]) -> list[str]:
    """The words but for some flags and their values, wherever they stand."""
    kept: list[str] = []
    left_out = False
    for word in words:
        flag, equals, _ = word.partition("=")
        named = flag.startswith("--") and flag.replace("_", "-") in flags
        if not named and not left_out:
            kept.append(word)
        left_out = named and not equals
    return kept


def number(flag: str, text: str, expected: str = "expected a whole number ≥ 1, or auto") -> int | None:
    """A whole number ≥ 1, or None for "auto" where that is expected."""
    if text == "auto" and text in expected:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--{flag} is {text!r}; {expected}.")
    return int(text)


def _share(accuracy: float | None) -> float | None:
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise UserError(f"--teacher-at-least is {accuracy:g}; expected a fraction from 0 to 1, such as 0.95.")
    return accuracy
