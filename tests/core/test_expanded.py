"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.core.paths import expanded


def test_a_name_that_begins_like_a_home_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors call their backups so; no user is called so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("~backup.png").touch()
    assert expanded("~backup.png") == Path("~backup.png")
    assert expanded("~nobody-of-this-name/x.png") == Path("~nobody-of-this-name/x.png")
    assert expanded("~/x.png") == tmp_path / "home/x.png"
    assert expanded("a\0b") == Path("a\0b")
