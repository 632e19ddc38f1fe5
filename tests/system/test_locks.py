"""Locks between processes."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

from sweeper import storage as studies
from sweeper.system.locks import created_once


def test_a_database_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    """A cold start of several at once would break those that come second."""
    database = tmp_path / "sweeper.db"
    making = Thread(target=lambda: studies.open_storage(f"sqlite:///{database}").remove_session())
    with created_once(database):
        making.start()
        making.join(1.0)
        assert making.is_alive() and not database.exists()
    making.join(120)
    assert database.exists()
