"""Marks that tests share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
"""Of a variant that `.ci/run exhaustive` alone tries."""


def rest_slow(cases: Iterable[Any], quick: int = 1) -> list[Any]:
    """Cases of which all but the first `quick` are slow: the first ones stand for the others in the quick run."""
    marked = []
    for at, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        marked.append(pytest.param(*values, marks=() if at < quick else pytest.mark.slow))
    return marked
