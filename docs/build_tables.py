"""A hook of mkdocs: fills `<!-- table: NAME -->` in a page from the package itself, so that no table grows old."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import griffe

from potstill import cli, data, machine, methods, models, recipes, record
from potstill.term import Term
from potstill.verbs import analyze, cache, catalogue, evidence, flags, report, tune, watch

MARKER = re.compile(r"<!-- table: ([a-z-]+) -->")
MEASURED = re.compile(r"<!-- measured: ([a-z0-9_-]+) -->")
RESULTS = re.compile(r"<!-- results: ([a-z0-9_.-]+) -->")
SAVED = Path(__file__).parents[1] / "results"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "results"

Rows = Iterable[Sequence[str]]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for each page: the text with its markers filled."""
    filled = MARKER.sub(lambda found: TABLES[found[1]](), markdown)
    filled = MEASURED.sub(lambda found: measured(found[1], BENCHMARKS), filled)
    return RESULTS.sub(lambda found: saved(SAVED / f"{found[1]}.md"), filled)


def saved(path: Path) -> str:
    """What `potstill report --save` kept of a recipe, without its title; its headings stand below those of the page."""
    if not path.exists():
        return f"None is recorded yet: `results/{path.name}` is where its tables will be."
    return re.sub(r"^## ", "#### ", path.read_text().partition("\n")[2], flags=re.MULTILINE).strip()


def measured(name: str, folder: Path) -> str:
    """One table of `python -m benchmarks`, from every machine on which it was measured."""
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = [_measured(file["machine"], file["tables"][name]) for file in files if name in file["tables"]]
    return "\n\n".join(found) or f"Not measured yet: `python -m benchmarks {name}`."


def _measured(machine: str, table: dict[str, Any]) -> str:
    """Rows, claims, and the conditions behind them."""
    at = table["conditions"]
    rows = [
        (row["name"], f"{row['median']:.4g}", " … ".join(f"{q:.4g}" for q in row["quartiles"]), f"{row['ratio']:.3g}")
        for row in table["rows"]
    ]
    parts = [f"*{table['title']}*", grid(("", table["unit"], "quartiles", "ratio"), rows)]
    if claims := table.get("claims"):
        parts.append(grid(("ratio of medians", "value", "95 %", "at least", ""), map(_claim, claims)))
    versions, load = at["versions"], f"{at['load'][0]:.2f} before, {at['load_after'][0]:.2f} after"
    flags = ", ".join(at["cpu_flags"])
    where = f"{machine} ({flags}), torch {versions['torch']}, {at['time'][:10]}, load {load}"
    return "\n\n".join([*parts, f"n = {len(table['rows'][0]['values'])}; {where}."])


def _claim(claim: dict[str, Any]) -> tuple[str, ...]:
    between = "" if claim["interval"] is None else " … ".join(f"{end:.3f}" for end in claim["interval"])
    least = "" if claim["least"] is None else f"{claim['least']:.3g}"
    return claim["name"], f"{claim['value']:.3f}", between, least, claim["verdict"]


def grid(head: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def described(documented: object) -> tuple[str, dict[str, str]]:
    """The text of a docstring before its sections, and what it says of each attribute or argument."""
    text, told = "", {}
    for section in griffe.Docstring(inspect.getdoc(documented) or "").parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            text = section.value
        elif section.kind in (griffe.DocstringSectionKind.attributes, griffe.DocstringSectionKind.parameters):
            told |= {part.name: " ".join(part.description.split()) for part in section.value}
    return text, told


def shown(default: object) -> str:
    """A default as a reader meets it."""
    if default in (MISSING, inspect.Parameter.empty):
        return "required"
    return "" if default in (None, ()) else f"`{default}`"


def _flags(kind: Any) -> str:
    """The flags that a class tells of; what it has from another is told there."""
    told, hints = described(kind)[1], get_type_hints(kind, include_extras=True)
    rows: list[tuple[str, ...]] = []
    for f in (f for f in fields(kind) if f.name in told):
        # What is positional is a word by itself, without a flag before it.
        positional = get_origin(hints[f.name]) is Annotated and "Positional" in str(hints[f.name])
        name = f"`{f.name.upper()}`" if positional else _flag(f.name)
        rows.append((name, shown(f.default), told[f.name]))
    return grid(("flag", "default", ""), rows)


def _flag(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


def _recipes() -> str:
    return "\n\n".join(_recipe(name) for name in recipes.names())


def _recipe(name: str) -> str:
    recipe = recipes.find(name)
    text, told = described(recipe)
    own = [(_flag(p.name), shown(p.default), told[p.name]) for p in inspect.signature(recipe).parameters.values()]
    table = f"\n\n{grid(('flag', 'default', ''), own)}" if own else ""
    return f"## `{name}`\n\n{text}{table}"


def _models() -> str:
    rows: list[tuple[str, ...]] = []
    for name in models.names():
        family = name.partition("_")[0]
        named = data.info(family) if family in data.names() else data.info("cifar100")
        network = models.Network(name, named.classes, named.shape[0])
        size = models.summarize(models.build(network), named.shape, name)
        shape = " × ".join(map(str, named.shape))
        rows.append((f"`{name}`", f"{size['parameters']:,}", f"{size['mult_adds']:,}", shape, str(named.classes)))
    return grid(("name", "parameters", "mult-adds", "image", "classes"), rows)


def _data() -> str:
    found = [data.info(name) for name in data.names()]
    rows = [
        (f"`{s.name}`", s.title, " × ".join(map(str, s.shape)), str(s.classes), f"{s.train:,}", f"{s.test:,}")
        for s in found
    ]
    return grid(("name", "set", "image", "classes", "training", "test"), rows)


def _methods() -> str:
    rows = [
        (f"[`{kind.__name__}`]({page(kind)})", described(kind)[0].splitlines()[0], kind.knowledge, *chosen_by(kind))
        for kind in catalogue.terms()
    ]
    return grid(("term", "", "knowledge", *CHOSEN_BY), rows)


CHOSEN_BY = ("taps", "learns", "needs", "after")


def chosen_by(kind: type[Term]) -> tuple[str, ...]:
    """What a method's default options tap, learn and need, and its source: the cells under `CHOSEN_BY`."""
    told = catalogue.method(kind)
    return catalogue.taps(told), "yes" if told["learned"] else "no", ", ".join(told["needs"]), told["citation"]


def page(kind: type) -> str:
    """The name of a method's page, beside those of the others."""
    return f"{kind.__module__.removeprefix(methods.__name__ + '.')}.md"


def _machine() -> str:
    """The table in the module's docstring, whose cells may go on in the next row, and what follows it."""
    head, table, rest = (inspect.getdoc(machine) or "").partition("| choice")
    lines, _, after = (table + rest).partition("\n\n")
    rows: list[list[str]] = []
    for line in lines.splitlines()[2:]:
        choice, rule = (cell.strip() for cell in line.strip("|").split("|"))
        if choice:
            rows.append([f"`{choice}`", rule])
        else:
            rows[-1][1] += f" {rule}"
    return f"{head.strip()}\n\n{grid(('choice', 'rule for `auto`'), rows)}\n\n{after}"


def _folder() -> str:
    """The list of files in the docstring of `potstill.record`."""
    listing = (inspect.getdoc(record) or "").split("\n\n")[1]
    files = [line.split(maxsplit=1) for line in listing.splitlines()[1:]]
    return grid(("file", "what it holds"), [(f"`{name}`", text) for name, text in files])


def _usage() -> str:
    return f"```text\n{cli.HELP}```"


TABLES: dict[str, Callable[[], str]] = {
    "usage": _usage,
    "flags": lambda: _flags(flags.Flags),
    "cache-flags": lambda: _flags(cache.Cache),
    "tune-flags": lambda: _flags(tune.Tune),
    "watch-flags": lambda: _flags(watch.Watch),
    "report-flags": lambda: _flags(report.Report),
    "analyze-flags": lambda: _flags(analyze.Analyze),
    "compare-flags": lambda: _flags(evidence.Compare),
    "plan-flags": lambda: _flags(evidence.Plan),
    "recipes": _recipes,
    "methods": _methods,
    "models": _models,
    "data": _data,
    "machine": _machine,
    "run-folder": _folder,
}
