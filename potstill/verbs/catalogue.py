"""What there is to choose from, as plain data and as a table."""

import inspect
from typing import Any

from potstill import data, methods, models, recipes
from potstill.term import Term


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Recipes, methods, models and data sets, each with what one needs to choose."""
    return {
        "recipes": [{"name": name, "title": _title(recipes.find(name))} for name in recipes.names()],
        "methods": [method(kind) for kind in terms()],
        "models": [{"name": name} for name in models.names()]
        + [{"name": name} for name in ("torchvision:NAME", "timm:NAME", "package.module:callable")],
        "data": [_data(name) for name in data.names()],
    }


def terms() -> list[type[Term]]:
    """Every term of the package, in the order of `potstill/methods/__init__.py`."""
    return [kind for kind in vars(methods).values() if isinstance(kind, type) and issubclass(kind, Term)]


def method(kind: type[Term]) -> dict[str, Any]:
    """A term as one chooses it: what it is, and with its default options what it learns, taps and needs."""
    term = kind()
    teacher = "peers" if kind.modes == ("online",) else "several teachers" if kind.several else "teacher"
    needs = ["labels"] * kind.reads_labels + [teacher] * term.needs_teacher
    return {
        "name": kind.__module__.rpartition(".")[2],
        "term": kind.__name__,
        "knowledge": kind.knowledge,
        "modes": list(kind.modes),
        "citation": kind.citation,
        "learned": kind.learns,
        "taps": {"student": len(term.student_taps), "teacher": len(term.teacher_taps)},
        "needs": needs if kind.companion is None else [*needs, kind.companion],
    }


def taps(entry: dict[str, Any]) -> str:
    """How many activations of the student and of the teacher a method looks at: 3 + 3."""
    return f"{entry['taps']['student']} + {entry['taps']['teacher']}"


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
        kinds = (entry["term"], entry["knowledge"], "/".join(entry["modes"]), f"taps {taps(entry)}")
        learned = ("learned part",) if entry["learned"] else ()
        return f"{', '.join((*kinds, *learned))}, needs {' and '.join(entry['needs'])}: {entry['citation']}"
    if "shape" in entry:
        shape = " × ".join(map(str, entry["shape"]))
        return f"{entry['set']}: {entry['train']:,} + {entry['test']:,} images of {shape}, {entry['classes']} classes"
    return ""


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
