"""The verb `show`."""

from potstill import recipes
from potstill.verbs.command import choices, parse, planned


def show(words: list[str]) -> int:
    """`potstill show RECIPE`: print its plan."""
    name, recipe, given, flags = parse("show", words)
    from potstill.verbs.preview import describe

    print(describe(recipes.label(name), planned(recipe, given, flags), choices(flags), flags.runs_dir))
    return 0
