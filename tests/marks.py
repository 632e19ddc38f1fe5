"""Marks that tests share."""

from __future__ import annotations

import pytest

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
"""Of a variant that `.ci/run exhaustive` alone tries."""
