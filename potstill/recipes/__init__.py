"""The experiments that ship: typed functions that return a sweep; their parameters are their flags.

Signatures hold plain numbers and strings, and bodies import what they compose, so that `--help` starts at once.
"""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from potstill.errors import UserError

Recipe = Callable[..., Any]


def names() -> tuple[str, ...]:
    """Every recipe of the package as `family:name`."""
    families = [module.name for module in pkgutil.iter_modules(__path__)]
    return tuple(f"{family}:{name}" for family in families for name in _recipes_in(_family(family)))


def find(name: str) -> Recipe:
    """The recipe called `family:name`, or the function in `path/to/file.py:function`.

    Raises:
        UserError: there is none; the sentence names the nearest.
    """
    place, _, function = name.rpartition(":")
    if place.endswith(".py"):
        return _from_file(Path(place), function)
    if name in names():
        return _recipes_in(_family(place))[function]
    if name.endswith(".py"):
        raise UserError(f"{name} is a file; name a function in it: {name}:function.")
    near = difflib.get_close_matches(name, names(), n=1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names())}, or path/to/file.py:function."
    )
    raise UserError(f"There is no recipe {name!r}; {hint}")


def _family(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _recipes_in(module: ModuleType) -> dict[str, Recipe]:
    """The public functions of a module, as it defines them or takes them from modules inside it."""
    inside = (module.__name__, f"{module.__name__}.")
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isfunction(member)
        and not name.startswith("_")
        and (member.__module__ == inside[0] or member.__module__.startswith(inside[1]))
    }


def label(name: str) -> str:
    """A recipe's name without the folders of its file: what sweeps and reports call it."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).name}:{function}" if place.endswith(".py") else name


def file_name(label: str) -> str:
    """What the files of a recipe's runs are called, before their endings: mnist-hinton."""
    return label.replace(":", "-")


def ask(recipe: Recipe, given: dict[str, Any]) -> object:
    """What a recipe answers.

    Raises:
        UserError: it is a recipe of the user's own, and something in it went wrong.
    """
    if recipe.__module__.startswith(f"{__name__}."):
        return recipe(**given)
    with _blaming(Path(inspect.getfile(sys.modules[recipe.__module__]))):
        return recipe(**given)


def _from_file(path: Path, function: str) -> Recipe:
    if not path.is_file():
        raise UserError(f"There is no file {path}; expected path/to/file.py:function.")
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader_state = _MARK
    taken = sys.modules.get(path.stem)
    if taken is not None and (taken.__spec__ is None or taken.__spec__.loader_state != _MARK):
        raise UserError(f"{path} is called like the module {path.stem!r}, which it would hide; rename the file.")
    module = importlib.util.module_from_spec(spec)
    # As when Python runs a file: what lies beside it can be imported, and its classes are found by their module.
    sys.modules[path.stem] = module
    sys.path[:] = [str(path.parent), *(place for place in sys.path if place != str(path.parent))]
    with _blaming(path):
        spec.loader.exec_module(module)
    recipes = _recipes_in(module)
    if function not in recipes:
        raise UserError(f"{path.name} has no function {function!r}; it has {', '.join(recipes) or 'none'}.")
    return recipes[function]


_MARK = "a file of recipes"


@contextmanager
def _blaming(path: Path) -> Generator[None, None, None]:
    """Turn what goes wrong in a user's file into a sentence that names the line; what goes wrong in here is raised."""
    try:
        yield
    except SyntaxError as error:
        raise UserError(f"{path.name} is not valid Python: {error.msg} in line {error.lineno}.") from error
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
        ours = Path(__file__).parents[1]
        if not lines or Path(frames[-1].filename).is_relative_to(ours):
            raise
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserError(f"{path.name} failed in line {lines[-1]} ({said}); mend it there.") from error
