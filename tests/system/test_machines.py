"""What a database file can serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.system import disk_space as machines
from sweeper.system.disk_space import unsafe_for_sqlite


def test_sqlite_is_warned_of_where_it_is_not_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    monkeypatch.setattr(machines, "file_system", lambda _: "ext4")
    assert unsafe_for_sqlite(url) is None
    monkeypatch.setattr(machines, "file_system", lambda _: "nfs4")
    assert "network file system (nfs4)" in str(unsafe_for_sqlite(url))
    assert unsafe_for_sqlite("postgresql://host/db") is None
