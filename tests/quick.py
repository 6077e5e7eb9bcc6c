"""Some cases of many run with every `make test`; the rest are slow."""

from collections.abc import Iterable
from typing import Any

import pytest


def only(quick: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """All cases for `parametrize`, of which those named run each time and the others with `make test-slow`.

    Args:
        quick: Some of the cases.
        cases: Values, or tuples of them.

    Raises:
        ValueError: one is named that is no case.
    """
    quick, cases = list(quick), list(cases)
    if unknown := [case for case in quick if case not in cases]:
        raise ValueError(f"No such cases: {unknown}.")

    def slow(case: Any) -> Any:
        return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)

    return [case if case in quick else slow(case) for case in cases]
