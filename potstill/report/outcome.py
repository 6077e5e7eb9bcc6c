"""What a finished run measured: the numbers of `result.json`, checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The numbers of one finished run; accuracies, ECE and agreement are fractions, NLL and KL are in nats."""

    seed: int
    seconds: float
    test_accuracy: float
    test_nll: float
    ece: float
    agreement: float | None
    kl_to_teacher: float | None
    best_validation_test_accuracy: float | None
    best_last_gap: float | None
    parameters: int
    extra_parameters: int
    mult_adds: float | None
    views_per_step: float | None
    forwards_per_step: float | None
    backwards_per_step: float | None
    teacher: str | None
    bitwise: bool


def outcome(result: Mapping[str, Any]) -> Outcome:
    """The numbers in a result.

    Raises:
        ValueError: one is missing, or not a finite number.
    """
    teacher = result.get("teacher")
    return Outcome(
        seed=int(_number(result, "seed")),
        seconds=_number(result, "seconds"),
        test_accuracy=_number(result, "test_accuracy"),
        test_nll=_number(result, "test_nll"),
        ece=_number(result, "ece"),
        agreement=_maybe(result, "agreement"),
        kl_to_teacher=_maybe(result, "kl_to_teacher"),
        best_validation_test_accuracy=_maybe(result, "best_validation_test_accuracy"),
        best_last_gap=_maybe(result, "best_last_gap"),
        parameters=int(_number(result, "parameters")),
        extra_parameters=int(_maybe(result, "extra_parameters") or 0),
        mult_adds=_maybe(result, "mult_adds"),
        views_per_step=_maybe(result, "views_per_step"),
        forwards_per_step=_maybe(result, "forwards_per_step"),
        backwards_per_step=_maybe(result, "backwards_per_step"),
        teacher=str(teacher) if teacher else None,
        bitwise=result.get("bitwise") is not False,
    )


def _maybe(result: Mapping[str, Any], key: str) -> float | None:
    return None if result.get(key) is None else _number(result, key)


def _number(result: Mapping[str, Any], key: str) -> float:
    value = result.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, not a finite number")
    return value
