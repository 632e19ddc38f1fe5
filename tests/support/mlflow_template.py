"""An empty MLflow database, made once per process: its migrations take seconds, which every small sweep would pay."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from sweeper.core.paths import TRACKING
from sweeper.system.locks import get_sqlite_path
from sweeper.tracking.mlflow_connection import connect_to_mlflow


@cache
def _make_database() -> bytes:
    folder = Path(tempfile.mkdtemp())
    try:
        client = connect_to_mlflow(f"sqlite:///{folder}/mlflow.db")
        client._tracking_client.store.engine.dispose()  # type: ignore[attr-defined]
        assert not (folder / "mlflow.db-wal").exists()
        return (folder / "mlflow.db").read_bytes()
    finally:
        shutil.rmtree(folder)


def write_store(folder: Path) -> None:
    """Write the database to a new folder, as the MLflow store of a sweep in it."""
    name = get_sqlite_path(TRACKING)
    assert name is not None
    path = folder / name.name
    if not path.exists():
        path.write_bytes(_make_database())
