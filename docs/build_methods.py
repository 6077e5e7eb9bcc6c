"""A hook of mkdocs: one page per method, made from its file, in the order of `potstill/methods/__init__.py`."""

import inspect
import sys
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

from build_tables import CHOSEN_BY, chosen_by, described, grid, page, shown
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from potstill.term import Term
from potstill.verbs import catalogue

FOLDER = "methods"


@dataclass(frozen=True)
class Page:
    """A page that no file holds: where it stands below the documentation's folder, and its Markdown."""

    path: str
    text: str


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Called by mkdocs once: the pages are entered under "Methods"."""
    entry = next(entry["Methods"] for entry in config.nav or [] if "Methods" in entry)
    entry.extend(made.path for made in pages())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs once: the pages are added to those that it found."""
    for made in pages():
        files.append(File.generated(config, made.path, content=made.text))
    return files


def pages() -> list[Page]:
    """Every method's page; terms of one file share one."""
    files: dict[str, list[type[Term]]] = {}
    for term in catalogue.terms():
        files.setdefault(term.__module__, []).append(term)
    return [Page(f"{FOLDER}/{page(terms[0])}", _text(sys.modules[name], terms)) for name, terms in files.items()]


def _text(module: ModuleType, terms: list[type[Term]]) -> str:
    """Title, source, formula, options, pitfalls: what the file's docstrings say of each."""
    title, *paragraphs = (inspect.getdoc(module) or "").split("\n\n")
    pitfalls = [text.removeprefix("Errata: ") for text in paragraphs if text.startswith("Errata: ")]
    source = [text for text in paragraphs if not text.startswith("Errata: ")]
    head, _, rest = title.partition(": ")
    parts = [f"# {head.removesuffix('.')}", rest[:1].upper() + rest[1:], *source, _facts(module, terms)]
    parts += ["## Formula", *(f"::: {module.__name__}.{name}" for name in _functions(module))]
    for term in terms:
        parts += [f"## Options of `{term.__name__}`", described(term)[0], _options(term)]
    if pitfalls:
        parts += ["## Pitfalls", *(text[:1].upper() + text[1:] for text in pitfalls)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(module: ModuleType, terms: list[type[Term]]) -> str:
    names = [kind.__name__ for kind in terms] + _functions(module)
    imported = f"```python\nfrom potstill.methods import {', '.join(names)}\n```"
    rows = [(f"`{kind.__name__}`", kind.knowledge, ", ".join(kind.modes), *chosen_by(kind)) for kind in terms]
    return f"{grid(('term', 'knowledge', 'mode', *CHOSEN_BY), rows)}\n\n{imported}"


def _functions(module: ModuleType) -> list[str]:
    """The pure functions that the file defines, in their order there."""
    own = [
        (function.__code__.co_firstlineno, name)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    ]
    return [name for _, name in sorted(own)]


def _options(term: Any) -> str:
    """Its own options first, then those that every term has."""
    told = described(Term)[1] | described(term)[1]
    inherited = {field.name for field in fields(Term)}
    ordered = sorted(fields(term), key=lambda field: field.name in inherited)
    rows = [(f"`{f.name}`", "" if f.default == "" else shown(f.default), told[f.name]) for f in ordered]
    return grid(("option", "default", ""), rows)
