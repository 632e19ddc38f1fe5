"""Code of a user's, as tests lay it in the working folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def own_module(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a module importable from the working folder, which `folder` becomes; unload it afterwards."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / f"{name}.py").write_text(source)
    try:
        yield name
    finally:
        sys.modules.pop(name, None)
