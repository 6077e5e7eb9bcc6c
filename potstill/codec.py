"""Specifications to JSON and back, strictly: the record of a run, never its source.

Any frozen dataclass can be a specification. A field of an abstract type carries the concrete class beside its own
fields, under "is"; fields that take no part in comparison (live modules, arrays) are left out.
"""

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

from cattrs import AttributeValidationNote, ForbiddenExtraKeysError
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import JsonConverter, make_converter

from potstill.errors import UserError

TAG = "is"
LATER = {"later": True}
"""Metadata of a field that was added to a specification after runs had been recorded: while it has its default it is
left out of the record, so that a run of before is still the same run. Such a default must never change."""
Spec = TypeVar("Spec")


def encode(spec: object) -> dict[str, Any]:
    """The JSON object of a specification: everything that `decode` needs to build an equal one."""
    return cast(dict[str, Any], _converter.unstructure(spec))


def decode(kind: type[Spec], value: object) -> Spec:
    """The specification in a JSON object.

    Raises:
        UserError: an unknown key (with the nearest known one), a missing one, a wrong type, a value out of range.
    """
    try:
        return _converter.structure(value, kind)
    except (BaseValidationError, UserError) as error:
        raise UserError(f"This is not a valid {kind.__name__}: {_first_cause(error)}") from None


def digest(value: object) -> str:
    """SHA-256 of a JSON value in its canonical form, as 64 hexadecimal digits."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """The value with 4.0 written as 4, so that both are one specification."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in cast(dict[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in cast(list[Any], value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def class_path(kind: type) -> str:
    """How a class is named in JSON: `package.module:Class`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _class_at(path: str, base: type) -> type:
    """The class that a JSON object names, which must be a kind of `base`."""
    module, _, name = path.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"{path!r} is no class that can be imported; expected a kind of {base.__name__}.") from None
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise UserError(f"{path!r} is not a kind of {base.__name__}.")
    return kind


def _is_abstract_spec(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and inspect.isabstract(kind)


def _is_final_spec(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and not inspect.isabstract(kind)


def _bool(value: object, _: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _int(value: object, _: Any) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise TypeError(f"expected a whole number, got {value!r}")
    return int(value)


def _float(value: object, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _str(value: object, _: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _build_converter() -> JsonConverter:
    converter = make_converter(forbid_extra_keys=True)
    for plain_kind, read in ((bool, _bool), (int, _int), (float, _float), (str, _str)):
        converter.register_structure_hook(plain_kind, read)

    def hidden(kind: type) -> dict[str, Any]:
        return {f.name: override(omit=True) for f in dataclasses.fields(kind) if not f.compare}

    def written(kind: type) -> dict[str, Any]:
        later = [f.name for f in dataclasses.fields(kind) if f.compare and f.metadata.get("later")]
        return hidden(kind) | {name: override(omit_if_default=True) for name in later}

    def unstructure_final(kind: type) -> Any:
        plain: Callable[[Any], dict[str, Any]] = make_dict_unstructure_fn(kind, converter, **written(kind))
        tagged = any(inspect.isabstract(base) and dataclasses.is_dataclass(base) for base in kind.__mro__[1:])

        def unstructure(spec: Any) -> dict[str, Any]:
            return {TAG: class_path(kind), **plain(spec)}

        return unstructure if tagged else plain

    def structure_final(kind: type) -> Any:
        make = cast(Callable[..., Callable[[Any, Any], Any]], make_dict_structure_fn)
        plain = make(kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **hidden(kind))

        def structure(value: object, _: Any) -> Any:
            if not isinstance(value, dict):
                raise UserError(f"expected the fields of a {kind.__name__}, got {value!r}.")
            fields = dict(cast(dict[str, Any], value))
            if (named := fields.pop(TAG, class_path(kind))) != class_path(kind):
                raise UserError(f"expected the fields of a {kind.__name__}, got those of {named!r}.")
            return plain(fields, kind)

        return structure

    def structure_abstract(kind: type) -> Any:
        def structure(value: object, _: Any) -> Any:
            if not (isinstance(value, dict) and isinstance(cast(dict[str, Any], value).get(TAG), str)):
                raise UserError(f"expected a {kind.__name__} with its class under {TAG!r}, got {value!r}.")
            return cast(Any, converter.structure(value, _class_at(cast(dict[str, str], value)[TAG], kind)))

        return structure

    def unstructure_abstract(kind: type) -> Any:
        return lambda spec: converter.unstructure(spec, type(spec))  # type: ignore[arg-type]

    converter.register_unstructure_hook_factory(_is_final_spec, unstructure_final)
    converter.register_structure_hook_factory(_is_final_spec, structure_final)
    converter.register_unstructure_hook_factory(_is_abstract_spec, unstructure_abstract)
    converter.register_structure_hook_factory(_is_abstract_spec, structure_abstract)
    return converter


def _first_cause(error: BaseException) -> str:
    """One sentence for the first thing that went wrong, however deep it stands."""
    place = ""
    while isinstance(error, BaseExceptionGroup):
        error = cast(BaseExceptionGroup[BaseException], error).exceptions[0]
        for note in getattr(error, "__notes__", ()):
            place = note.name if isinstance(note, AttributeValidationNote) else place
    if isinstance(error, ForbiddenExtraKeysError):
        kind = error.cl
        known = [field.name for field in dataclasses.fields(kind) if field.compare]
        extra = sorted(error.extra_fields)[0]
        near = difflib.get_close_matches(extra, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
        return f"{kind.__name__} has no field {extra!r}; {hint}"
    if isinstance(error, KeyError):
        return f"the field {error.args[0]!r} is missing."
    return str(error) if isinstance(error, UserError) or not place else f"the field {place!r} cannot be read: {error}."


_converter = _build_converter()
