"""Reaching an MLflow store: opened or made once, and what to say of one that does not answer."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from urllib.parse import unquote

from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from sweeper.core.errors import UsageError
from sweeper.core.paths import folder_name
from sweeper.core.redact import check_address, shown_address
from sweeper.system.leases import leased
from sweeper.system.locks import created_once, sqlite_path
from sweeper.system.postgres import is_postgres, named_url
from sweeper.system.system_errors import cause
from sweeper.tracking.prepared_views import TAG


def connect(uri: str) -> MlflowClient:
    """A client of a store that answers; a SQLite store is made, and migrated, once.

    Raises:
        UsageError: if it does not answer.
    """
    try:
        return _connected(uri)
    except Exception as error:
        raise no_store(uri, error) from error


def _connected(uri: str) -> MlflowClient:
    check_address("--tracking-uri", uri)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is told by us, in one line
    path = sqlite_path(uri)
    if is_postgres(uri):
        with leased(uri, "mlflow", wait=True):
            return _client(named_url(uri, "mlflow"))
    if path is None:
        return _client(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with created_once(path):
        with sqlite3.connect(path, timeout=60) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        # MLflow keeps its connections by address: a relative one would name the first working folder's file for ever.
        return _client(f"sqlite:///{path.absolute()}")


def _client(address: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=address)
    client.search_experiments(max_results=1)  # makes and migrates the tables
    return client


def no_store(uri: str, error: Exception) -> UsageError:
    """What to tell people of an address at which nothing answers."""
    if isinstance(error, UsageError):
        return error
    return UsageError(
        f"--tracking-uri {shown_address(uri)} must be an MLflow store that answers, got: {cause(error)}. Start "
        "the server, or "
        "leave the option out for a file in the working folder"
    )


def server_version(uri: str) -> str:
    """What MLflow's server at an http(s):// address says it is.

    Raises:
        Exception: whatever MLflow raises, and where the server answers with an error.
    """
    answer = http_request(get_default_host_creds(uri), "/version", "GET")  # type: ignore[no-untyped-call]
    answer.raise_for_status()
    return str(answer.text[:100].strip())


def prepared_studies(uri: str) -> dict[str, str]:
    """Studies in an MLflow store that have views, the newest first: name → id of the experiment.

    Raises:
        UsageError: if the store does not answer.
    """
    experiments = connect(uri).search_experiments(order_by=["creation_time DESC"])
    return {e.name: str(e.experiment_id) for e in experiments if f"{TAG}sweep" in e.tags}


def artifacts_of(store: Path, study: str) -> str:
    """Address of the folder of a study's files in MLflow: beside its SQLite store."""
    return (store.resolve().parent / "mlruns" / folder_name(study)).as_uri()


def files_elsewhere(store: Path, study: str, location: str) -> bool:
    """Whether the address of a study's files names another folder than beside its store, which was moved or copied.

    MLflow keeps absolute addresses alone. A folder that a person gave the experiment is left to that person.
    """
    own_store = location.startswith("file:") and unquote(location).endswith(f"/mlruns/{folder_name(study)}")
    return own_store and location != artifacts_of(store, study)
