"""The verb `list`."""

import json
from dataclasses import dataclass

import tyro


@dataclass(frozen=True, kw_only=True)
class List:
    """What there is: recipes, methods, models, data sets.

    Attributes:
        json: As one JSON object.
    """

    json: bool = False


def listing(words: list[str]) -> int:
    """`potstill list`: print what there is."""
    flags = tyro.cli(List, prog="potstill list", args=words)
    from potstill.verbs.catalogue import catalogue, table

    print(json.dumps(catalogue(), indent=2) if flags.json else table(catalogue()))
    return 0
