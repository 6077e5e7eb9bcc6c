"""What is asked of a tuning: which arm of a recipe is best on its validation images, at which values of its flags."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from potstill.codec import digest
from potstill.errors import UserError
from potstill.run import Run, fingerprint
from potstill.sweep import Arm, Sweep
from potstill.tune.ranges import Range

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """An arm of a recipe, and what is turned.

    Attributes:
        recipe: What the recipe is called.
        ranges: What is turned.
        start: A value for each of them that the recipe has by itself, or was given.
        plan: The recipe's sweep at some values.
        arm: The arm that is tuned.
    """

    recipe: str
    ranges: tuple[Range, ...]
    start: Values
    plan: Callable[[Values], Sweep]
    arm: str

    def values(self, drawn: Values) -> dict[str, Any]:
        """What the recipe gets for what was drawn; what is not among it is left out."""
        return {one.name: self._taken(one, drawn[one.name]) for one in self.ranges if one.name in drawn}

    def _taken(self, one: Range, drawn: Any) -> Any:
        return drawn if drawn == self.start[one.name] else one.value(drawn)

    def runs(self, values: Values) -> list[Run]:
        """The arm's runs at some values, one for each seed.

        Raises:
            UserError: the recipe refuses the values, or has no such arm there.
        """
        sweep = self.plan(values)
        arm = _arm_like(self.arm, self.plan(self.start).arms, sweep.arms)
        return [replace(arm.run, seed=seed) for seed in sweep.seeds]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every trial."""
        return self.plan(self.start).seeds

    @property
    def name(self) -> str:
        """What its study is called: another question has another name."""
        ranges = [[type(one).__name__, *vars(one).values()] for one in self.ranges]
        runs = [fingerprint(run) for run in self.runs(self.start)]
        return f"{self.recipe} · {self.arm} · {digest({'ranges': ranges, 'runs': runs})[:12]}"


def ask(
    recipe: str, ranges: tuple[Range, ...], start: Values, plan: Callable[[Values], Sweep], wanted: str | None
) -> Question:
    """The question, if it can be answered.

    Args:
        recipe: What the recipe is called.
        ranges: What is turned.
        start: A value for each of them.
        plan: The recipe's sweep at some values.
        wanted: The arm that was named; None takes the only one that changes with everything that is turned.

    Raises:
        UserError: no arm, or none alone, changes with what is turned; there are no validation images; or the recipe
            refuses an end of a range.
    """
    arms = plan(start).arms
    moved = _moved(ranges, start, plan, arms)
    arm = _only(recipe, ranges, moved) if wanted is None else _named(recipe, ranges, moved, wanted)
    question = Question(recipe=recipe, ranges=ranges, start=start, plan=plan, arm=arm)
    for run in question.runs(start):
        if run.data.validation == 0:
            raise UserError(
                f"The arm {arm!r} of {recipe} keeps no validation images, and tuning never looks at the test split; "
                f"give the data of the recipe a share of the training images, as in Data(name={run.data.name!r}, "
                "validation=0.1)."
            )
    return question


def _moved(
    ranges: Sequence[Range], start: Values, plan: Callable[[Values], Sweep], arms: Sequence[Arm]
) -> dict[str, set[str]]:
    """For every arm the names of what it changes with; every end of every range is tried, so that none is refused."""
    moved: dict[str, set[str]] = {arm.name: set() for arm in arms}
    for one in ranges:
        for end in one.ends:
            there = plan({**start, one.name: end}).arms
            for arm in arms:
                if fingerprint(_arm_like(arm.name, arms, there).run) != fingerprint(arm.run):
                    moved[arm.name].add(one.name)
    return moved


def _arm_like(name: str, arms: Sequence[Arm], there: Sequence[Arm]) -> Arm:
    """The arm of that name at other values, or the one in its place where names tell the values."""
    for arm in there:
        if arm.name == name:
            return arm
    place = [arm.name for arm in arms].index(name)
    if len(arms) != len(there):
        raise UserError(
            f"The recipe has no arm {name!r} at every value of what is tuned; it must have the same arms at all."
        )
    return there[place]


def _only(recipe: str, ranges: Sequence[Range], moved: Mapping[str, set[str]]) -> str:
    """The one arm that changes with everything that is turned."""
    for one in ranges:
        if not any(one.name in names for names in moved.values()):
            raise UserError(f"No arm of {recipe} changes with {one.name}; leave it out.")
    candidates = [arm for arm, names in moved.items() if len(names) == len(ranges)]
    if len(candidates) == 1:
        return candidates[0]
    what = _listed([one.name for one in ranges], "and")
    if candidates:
        raise UserError(
            f"{len(candidates)} arms of {recipe} change with {what}; say which with --arm: "
            f"{_listed([repr(arm) for arm in candidates], 'or')}."
        )
    raise UserError(f"No arm of {recipe} changes with all of {what}; tune them apart.")


def _named(recipe: str, ranges: Sequence[Range], moved: Mapping[str, set[str]], wanted: str) -> str:
    """The arm that was asked for."""
    if wanted not in moved:
        near = difflib.get_close_matches(wanted, moved, n=1)
        listed = _listed([repr(arm) for arm in moved], "or")
        hint = f"did you mean {near[0]!r}?" if near else f"expected {listed}."
        raise UserError(f"{recipe} has no arm {wanted!r}; {hint}")
    still = [one.name for one in ranges if one.name not in moved[wanted]]
    if still:
        raise UserError(f"The arm {wanted!r} of {recipe} is the same at every {_listed(still, 'and')}; leave it out.")
    return wanted


def _listed(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
