"""What a database file can serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.workflow import shared_database as machines
from sweeper.workflow.shared_database import one_machine_only


def test_sqlite_is_warned_of_where_it_is_not_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    monkeypatch.setattr(machines, "file_system", lambda _: "ext4")
    assert one_machine_only(url) is None
    monkeypatch.setattr(machines, "file_system", lambda _: "nfs4")
    assert "network file system (nfs4)" in str(one_machine_only(url))
    assert one_machine_only("postgresql://host/db") is None
