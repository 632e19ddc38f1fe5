"""Marks that tests share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
"""Marks of a variant that only `.ci/run exhaustive` tests."""


def rest_slow(cases: Iterable[Any], quick: int = 1, slow: int | None = None) -> list[Any]:
    """Mark cases: the first `quick` run always, the next `slow` of them (None = all) are slow, the rest exhaustive."""
    marked = []
    for at, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        beyond = slow is not None and at >= quick + slow
        marked.append(pytest.param(*values, marks=() if at < quick else EXHAUSTIVE if beyond else pytest.mark.slow))
    return marked
