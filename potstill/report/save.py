"""Tables to keep beside the code: JSON, Markdown, CSV and LaTeX per sweep."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from potstill.errors import UserError
from potstill.record import Json, make_folder, write_bytes, write_json
from potstill.report import latex
from potstill.report.document import section
from potstill.report.entry import Group
from potstill.report.ladder import Rung, controls, ladder
from potstill.report.rows import Row, Spread, rows
from potstill.report.spreadsheet import spreadsheet


def save_tables(groups: Sequence[Group], folder: Path) -> None:
    """Write `<recipe>.json`, `.md`, `.csv` and `.tex` of every group.

    Raises:
        UserError: two groups are of one recipe, so that one would overwrite the other.
    """
    names = file_names(groups, folder)
    make_folder(folder)
    for name, group in zip(names, groups, strict=True):
        found = table(group)
        write_json(folder / f"{name}.json", found)
        write_bytes(folder / f"{name}.md", section(group).encode())
        write_bytes(folder / f"{name}.csv", spreadsheet([found]).encode())
        write_bytes(folder / f"{name}.tex", latex.document([group]).encode())


def file_names(groups: Sequence[Group], folder: Path) -> list[str]:
    """What the files of each group are called.

    Raises:
        UserError: two groups are of one recipe, so that one would overwrite the other.
    """
    names = [file_name(group.recipe) for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two sweeps would both be saved as {folder / name}; report them one by one.")
    return names


def file_name(recipe: str) -> str:
    """The recipe's name as a file's: mnist-hinton."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in recipe)


def table(group: Group) -> Json:
    """The comparison as plain data; accuracies and differences are fractions."""
    compared = rows(group)
    environment = group.entries[0].record.environment
    runs = {entry.record.folder: entry.outcome.seconds for entry in group.entries}
    return {
        "recipe": group.recipe,
        "command": group.command,
        "environment": {key: value for key, value in environment.items() if key != "resumed"},
        "seconds": sum(runs.values()),
        "reference": group.reference,
        "margin": group.margin,
        "rows": [_row(row) for row in compared],
        "ladder": [_rung(rung) for rung in ladder(compared, group.margin)],
        "controls": [_rung(rung) for rung in controls(compared, group.margin)],
    }


def _rung(rung: Rung) -> dict[str, Any]:
    return {
        "change": rung.row.change,
        "arm": rung.row.arm,
        "after": rung.row.after,
        "difference": list(rung.values),
        "verdict": None if rung.verdict is None else asdict(rung.verdict),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "n": row.n,
        "test_accuracy": _spread(row.test_accuracy),
        "best_validation_test_accuracy": _spread(row.over(lambda outcome: outcome.best_validation_test_accuracy)),
        "test_nll": _spread(row.test_nll),
        "ece": _spread(row.ece),
        "agreement": _spread(row.over(lambda outcome: outcome.agreement)),
        "kl_to_teacher": _spread(row.over(lambda outcome: outcome.kl_to_teacher)),
        "best_last_gap": _spread(row.over(lambda outcome: outcome.best_last_gap)),
        "parameters": row.first.parameters,
        "extra_parameters": row.first.extra_parameters,
        "mult_adds": row.first.mult_adds,
        "seconds": row.seconds,
        "views_per_step": row.first.views_per_step,
        "forwards_per_step": row.first.forwards_per_step,
        "backwards_per_step": row.first.backwards_per_step,
        "teachers": row.teachers,
        "published": row.published,
        "verdict": None if row.verdict is None else asdict(row.verdict),
        "settings": row.settings,
        "seeds": list(row.seeds),
    }


def _spread(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else {"mean": value.mean, "std": value.std, "values": list(value.values)}
