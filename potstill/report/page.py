"""The page: everything of a report in one HTML file that needs nothing else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from potstill.record import Json
from potstill.report import curves, figures, ladder, settings, size
from potstill.report.analysis import Analysis, analysis
from potstill.report.entry import Group
from potstill.report.find import Notice
from potstill.report.load import Report
from potstill.report.origin import origins, remarks
from potstill.report.plate import Panel, Plate, marks
from potstill.report.rows import Row, grid, rows
from potstill.report.save import file_name
from potstill.report.tables import DASH, EMPTY, VERDICT, Column, Lines, Table, comparison
from potstill.report.tuning import Tuned, tuned
from potstill.report.words import amount, rule, summary
from potstill.report.written import seeds_table, settings_table

DRAWINGS = 72
"""About how many drawings a page holds, shared among its groups, so that hundreds of runs are shown in seconds."""


@dataclass(frozen=True)
class Layer:
    """One line of a model's summary."""

    layer: str
    kind: str
    shape: str
    parameters: str
    mult_adds: str


@dataclass(frozen=True)
class Model:
    """One network as its runs described it, and the arms that use it."""

    name: str
    arms: str
    parameters: str
    mult_adds: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Ladder:
    """Arms that each differ in one thing from another, as a table and a figure."""

    kind: ladder.Kind
    table: Lines
    plate: Plate | None


@dataclass(frozen=True)
class Section:
    """One group, ready to be set."""

    anchor: str
    group: Group
    summary: str
    table: Table
    rule: str
    families: tuple[tuple[str, int], ...]
    widths: tuple[int, ...]
    meanings: tuple[Column, ...]
    overview: tuple[Plate, ...]
    tables: tuple[Lines, ...]
    ladders: tuple[Ladder, ...]
    plates: tuple[Plate, ...]
    crowded: bool
    look: Analysis | None
    models: tuple[Model, ...]
    origins: tuple[tuple[tuple[str, str], ...], ...]
    remarks: tuple[Notice, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Every drawing, in the order of the page."""
        rungs = [each.plate for each in self.ladders if each.plate is not None]
        plates = (*self.overview, *rungs, *self.plates, *(self.look.plates if self.look else ()))
        return tuple(panel for plate in plates for panel in plate.panels)


def sections(report: Report) -> tuple[Section, ...]:
    """The groups of a report, each with its tables and figures."""
    drawings = DRAWINGS // max(1, len(report.groups))
    return tuple(_section(group, number, drawings) for number, group in enumerate(report.groups, start=1))


def tunings(report: Report) -> tuple[Tuned, ...]:
    """The tunings of a report, each with its table and figures."""
    return tuple(tuned(number, one) for number, one in enumerate(report.tunings, start=1))


def render(report: Report, made: Sequence[Section], found: Sequence[Tuned]) -> str:
    """The page's text, from the report, what is made of each of its groups, and of each tuning."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    left_out = len(report.left_out) + sum(len(group.left_out) for group in report.groups)
    runs = sum(len(group.entries) for group in report.groups)
    page = environment.get_template("page.html.j2")
    return page.render(
        sections=made,
        tunings=found,
        notices=report.left_out,
        left_out=left_out,
        runs=runs,
        amount=amount,
        empty=EMPTY,
    )


def _section(group: Group, number: int, drawings: int) -> Section:
    table = rows(group)
    name, marked = f"g{number}", marks(table)
    overview, tables = _overview(name, group, table)
    overview += curves.together(name, table, marked) if drawings >= 4 else []
    apart = (drawings - 4) // 3
    compared = comparison(group, table)
    return Section(
        anchor=f"{file_name(group.recipe)}-{number}",
        group=group,
        summary=summary(group, table),
        table=compared,
        rule=rule(group, table),
        families=_families(compared),
        widths=_widths(compared),
        # How verdicts are reached stands below the table.
        meanings=tuple(column for column in compared.columns if column.title != VERDICT.title),
        overview=tuple(overview),
        tables=tuple(tables),
        ladders=tuple(
            Ladder(kind, ladder.lines(kind, rungs), ladder.plate(name, kind, rungs, marked))
            for kind, rungs in ladder.ladders(table, group.margin)
        ),
        plates=tuple(curves.apart(name, table, apart, marked)) if apart >= 2 else (),
        crowded=apart < 2,
        look=analysis(name, table, marked) if apart >= 2 else None,
        models=_models(table),
        origins=origins(group),
        remarks=remarks(group),
    )


def _overview(name: str, group: Group, table: Sequence[Row]) -> tuple[list[Plate], list[Lines]]:
    """The figures of the results, and the tables that stand behind them."""
    marked = marks(table)
    found, response = grid(table), settings.response(table)
    several = len(group.entries) > 1
    plates = [
        settings.heat(f"{name}-heat", found) if found else None,
        settings.curve(f"{name}-response", response, table) if response else None,
        figures.dots(f"{name}-seeds", table, marked) if several else None,
        figures.verdicts(f"{name}-differences", table, marked),
        size.pareto(f"{name}-size", table, marked) if several else None,
    ]
    tables = [seeds_table(table)] if several else []
    tables += [settings_table(found)] if found else []
    return [plate for plate in plates if plate is not None], tables


def _families(table: Table) -> tuple[tuple[str, int], ...]:
    """Heads that span the columns of one family."""
    spans: list[tuple[str, int]] = []
    for column in table.columns:
        if spans and spans[-1][0] == column.family:
            spans[-1] = (column.family, spans[-1][1] + 1)
        else:
            spans.append((column.family, 1))
    return tuple(spans)


def _widths(table: Table) -> tuple[int, ...]:
    """Room for each column's spread, in characters, so that the means stand under each other; 0 without any."""
    longest = [max(len(cell.spread) for cell in column) for column in zip(*table.cells, strict=True)]
    return tuple(length + 2 if length else 0 for length in longest)


def _models(table: Sequence[Row]) -> tuple[Model, ...]:
    """The distinct networks of the arms; equal ones are shown once."""
    found: dict[str, tuple[Json, list[str]]] = {}
    for row in table:
        summary = row.entries[0].record.summary
        for role in ("student", "teacher"):
            model = summary.get(role)
            if isinstance(model, dict) and "layers" in model:
                # What a first stage or a teacher keeps fixed makes it no other network.
                shown = {key: value for key, value in cast(Json, model).items() if key != "trainable_parameters"}
                _, arms = found.setdefault(json.dumps(shown, sort_keys=True), (shown, []))
                arms.append(row.arm if role == "student" else "teacher")
    return tuple(_model(model, list(dict.fromkeys(arms))) for model, arms in found.values())


def _model(model: Json, arms: Sequence[str]) -> Model:
    names = ", ".join(arms) if len(arms) <= 6 else f"{', '.join(arms[:5])} and {len(arms) - 5} more"
    return Model(
        name=str(model.get("name", "model")),
        arms=names,
        parameters=_count(model.get("parameters")),
        mult_adds=_amount(model.get("mult_adds")),
        layers=tuple(_layer(line) for line in model["layers"]),
    )


def _layer(line: Json) -> Layer:
    shape: Sequence[int] = line.get("output_shape") or ()
    return Layer(
        layer=str(line.get("layer", "")),
        kind=str(line.get("kind", "")),
        shape=" \N{MULTIPLICATION SIGN} ".join(str(size) for size in shape) or DASH,
        parameters=_count(line.get("parameters")),
        mult_adds=_amount(line.get("mult_adds")),
    )


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else DASH


def _amount(value: Any) -> str:
    return amount(value) if isinstance(value, int | float) else DASH
