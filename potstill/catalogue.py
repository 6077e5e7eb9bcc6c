"""What there is to choose from, as plain data and as a table."""

import inspect
from typing import Any

from potstill import data, methods, models, recipes
from potstill.term import Term


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Recipes, methods, models and data sets, each with what one needs to choose."""
    return {
        "recipes": [{"name": name, "title": _title(recipes.find(name))} for name in recipes.names()],
        "methods": [_method(kind) for kind in terms()],
        "models": [{"name": name} for name in models.names()]
        + [{"name": name} for name in ("torchvision:NAME", "timm:NAME", "package.module:callable")],
        "data": [_data(name) for name in data.names()],
    }


def terms() -> list[type[Term]]:
    """Every term of the package, in the order of `potstill/methods/__init__.py`."""
    return [kind for kind in vars(methods).values() if isinstance(kind, type) and issubclass(kind, Term)]


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The same for a person to read."""
    lines: list[str] = []
    for kind, entries in found.items():
        lines += ["", kind]
        width = max(len(entry["name"]) for entry in entries)
        lines += [f"  {entry['name']:<{width}}  {_told(entry)}".rstrip() for entry in entries]
    return "\n".join(lines[1:])


def _told(entry: dict[str, Any]) -> str:
    if "title" in entry:
        return entry["title"]
    if "knowledge" in entry:
        return f"{entry['term']}, {entry['knowledge']}, {'/'.join(entry['modes'])}: {entry['citation']}"
    if "shape" in entry:
        shape = " × ".join(map(str, entry["shape"]))
        return f"{entry['set']}: {entry['train']:,} + {entry['test']:,} images of {shape}, {entry['classes']} classes"
    return ""


def _method(kind: type[Term]) -> dict[str, Any]:
    return {
        "name": kind.__module__.rpartition(".")[2],
        "term": kind.__name__,
        "knowledge": kind.knowledge,
        "modes": list(kind.modes),
        "citation": kind.citation,
    }


def _data(name: str) -> dict[str, Any]:
    source = data.info(name)
    return {
        "name": name,
        "set": source.title,
        "classes": source.classes,
        "shape": list(source.shape),
        "train": source.train,
        "test": source.test,
    }


def _title(recipe: recipes.Recipe) -> str:
    return (inspect.getdoc(recipe) or "").partition("\n")[0]
