"""Code of a user's, as tests lay it in the working folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeper.losses.families import FAMILIES
from sweeper.losses.own_losses import OWN


@contextmanager
def own_module(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a module importable from the working folder, which `folder` becomes; forget it and its losses afterwards."""
    families, own = dict(FAMILIES), dict(OWN)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / f"{name}.py").write_text(source)
    try:
        yield name
    finally:
        sys.modules.pop(name, None)
        for table, before in ((FAMILIES, families), (OWN, own)):
            for added in table.keys() - before.keys():
                del table[added]
