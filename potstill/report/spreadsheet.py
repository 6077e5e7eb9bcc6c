"""The comparison as comma-separated values: a line per arm, the same numbers as in the JSON."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

from potstill.record import Json


def spreadsheet(tables: Sequence[Json]) -> str:
    """The rows of saved tables under one head; what an arm does not have is an empty cell.

    Args:
        tables: What `<recipe>.json` holds, one per recipe.
    """
    rows = [{"recipe": table["recipe"], **row} for table in tables for row in table["rows"]]
    lines = [flat(row) for row in rows]
    places = {key: place for place, key in enumerate(key for row in rows[:1] for key in row)}
    heads = dict.fromkeys(head for line in lines for head, value in line.items() if value != "")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ordered = sorted(heads, key=lambda head: places[head.partition(".")[0]])
    writer.writerow(ordered)
    writer.writerows([line.get(head, "") for head in ordered] for line in lines)
    return text.getvalue()


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row without nesting: `test_accuracy.mean`, the values of seeds separated by spaces."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            cells |= flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        elif isinstance(value, list):
            cells[prefix + key] = " ".join(str(part) for part in cast(list[Any], value))
        else:
            cells[prefix + key] = "" if value is None else value
    return cells
