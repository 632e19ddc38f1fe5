"""Connect to an MLflow store with bounded requests: the timeout of `requests` only limits the time between two bytes.

MLflow makes its sessions with one adapter class, which this module replaces. From the start of the wait, the response
to a request may take the timeout plus the time of its bytes on a slow line. Sending needs no such bound: a socket's
timeout is for a whole block.
"""

from __future__ import annotations

import http.client
import io
import logging
import os
import shlex
import socket
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import mlflow
import numpy as np
import numpy.typing as npt
from mlflow.models import ModelSignature
from mlflow.store.db.utils import _verify_schema
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from mlflow.utils import request_utils
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import inspect
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sweeper.core.errors import SweeperError, UsageError, check_address, get_cause, iterate_causes
from sweeper.core.paths import make_folder_name
from sweeper.core.redact import hide_address_secrets
from sweeper.system.leases import hold_lease
from sweeper.system.locks import get_sqlite_path, lock_database_creation
from sweeper.system.machine import explain_machine_limit
from sweeper.system.postgres import is_postgres, make_named_url, make_read_only_engine
from sweeper.tracking.prepared_views import TAG

ALIAS = "candidate"
"""Alias of the version that was registered last."""
SLOWEST_LINE = 16 * 1024
"""Bytes per second."""
LONGEST = 256 * 2**20
"""Most bytes of one unpacked response."""


class _BoundedAnswer(io.RawIOBase):
    """Response from a socket, with a deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, timeout: float) -> None:
        """`raw`: the socket's own file, which keeps the socket open; `timeout` in seconds."""
        self._sock, self._own, self._silence = sock, raw, timeout
        self._until = time.monotonic() + timeout

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read like a socket's file.

        Raises:
            TimeoutError: after the deadline.
        """
        left = min(self._silence, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError("timed out, though bytes keep coming")
        self._sock.settimeout(left)  # the next request resets the timeout
        size = self._sock.recv_into(buffer)
        self._until += size / SLOWEST_LINE
        return size

    def close(self) -> None:
        """Close the socket's own file."""
        self._own.close()
        super().close()


class _BoundedHttpConnection(HTTPConnection):
    """A connection with a deadline for each response."""

    def response_class(self, sock: socket.socket, *arguments: Any, **more: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """Return a bounded response, also of a proxy."""
        response = http.client.HTTPResponse(sock, *arguments, **more)
        if self.timeout is not None:
            response.fp = io.BufferedReader(_BoundedAnswer(sock, response.fp.detach(), self.timeout))
        return response


class _BoundedTlsConnection(_BoundedHttpConnection, HTTPSConnection):
    """Bounded connection with TLS."""


class BoundedPool(HTTPConnectionPool):
    """Bounded connections to a server; errors contain this class's name."""

    ConnectionCls = _BoundedHttpConnection


class BoundedTlsPool(HTTPSConnectionPool):
    """Bounded pool with TLS."""

    ConnectionCls = _BoundedTlsConnection


class BoundedAdapter(request_utils.TCPKeepAliveHTTPAdapter):
    """MLflow's adapter of `requests` with bounded connections."""

    _POOLS: ClassVar = {"http": BoundedPool, "https": BoundedTlsPool}

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make MLflow's pools, bounded."""
        super().init_poolmanager(*arguments, **more)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = self._POOLS

    def send(self, request: Any, *arguments: Any, **more: Any) -> Any:
        """Send like MLflow, and limit the length of a response that is kept in memory.

        Raises:
            ConnectionError: if the response is longer than `LONGEST`.
        """
        answer = super().send(request, *arguments, **more)
        if not more.get("stream"):
            body = bytearray()
            for part in answer.iter_content(2**16):
                body += part
                if len(body) > LONGEST:
                    answer.close()
                    raise ConnectionError(f"an answer must be at most {LONGEST:,} bytes long, got more")
            answer._content = bytes(body)
        return answer

    def proxy_manager_for(self, *arguments: Any, **more: Any) -> Any:
        """Return MLflow's proxy manager, bounded."""
        manager = super().proxy_manager_for(*arguments, **more)  # type: ignore[no-untyped-call]
        manager.pool_classes_by_scheme = self._POOLS
        return manager


request_utils.TCPKeepAliveHTTPAdapter = BoundedAdapter  # type: ignore[misc]


def connect_to_mlflow(uri: str) -> MlflowClient:
    """Connect to a store; a SQLite store is created or migrated once.

    Raises:
        UsageError: if the store does not answer.
    """
    check_address("--tracking-uri", uri)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # sweeper reports errors itself, in one line
    advice = "Start the server, or leave the option out for a file in the working folder"
    if (path := get_sqlite_path(uri)) is not None:
        file = shlex.quote(str(path.absolute()))
        advice = f"Move it away, and repeat the command, for a new one: mv {file} {file}.old"
    with explain_store_errors(uri, advice):
        client = _open_server(uri) if path is None else _open_file(path)
    return client  # noqa: RET504 (a block that may swallow errors returns nothing)


def _open_server(uri: str) -> MlflowClient:
    if not is_postgres(uri):
        return _make_client(uri)
    with hold_lease(uri, "mlflow", wait=True):
        return _make_client(make_named_url(uri, "mlflow"))


def _open_file(path: Path) -> MlflowClient:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a pool each write ends in the file itself, and no connection keeps a moved or deleted file open.
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    with lock_database_creation(path, _connect_to_file):
        with sqlite3.connect(path, timeout=60) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        return _connect_to_file(path)


def _connect_to_file(path: Path) -> MlflowClient:
    # MLflow caches connections by address: a relative address would always mean the first working folder's file.
    return _make_client(f"sqlite:///{path.absolute()}")


def _make_client(address: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=address)
    client.search_experiments(max_results=1)  # creates and migrates the tables
    return client


@contextmanager
def explain_store_errors(uri: str, advice: str) -> Iterator[None]:
    """Turn MLflow's errors in the block into one error with the store's address, the cause and the advice.

    Raises:
        UsageError: that error.
        SweeperError: sweeper's own, also one of a signal's handler that MLflow has caught and wrapped.
    """
    try:
        yield
    except Exception as error:
        own = next((one for one in iterate_causes(error) if isinstance(one, SweeperError)), None)
        if own is not None:
            raise own from None
        if getattr(error, "get_http_status_code", int)() in (401, 403):
            advice = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise UsageError(
            f"--tracking-uri {hide_address_secrets(uri)} must be an MLflow store that answers, got: "
            f"{explain_machine_limit(error) or f'{get_cause(error, 600)}. {advice}'}"
        ) from error


def check_mlflow_schema(uri: str) -> None:
    """Check that the installed MLflow fits a database, without changing it.

    Raises:
        MlflowException: with MLflow's advice if it does not fit.
    """
    engine = make_read_only_engine(uri)
    if inspect(engine).has_table("alembic_version"):
        _verify_schema(engine)  # type: ignore[no-untyped-call]


def get_server_version(uri: str) -> str:
    """Return the version of MLflow's server at an http(s):// address.

    Raises:
        Exception: whatever MLflow raises, or if the server responds with an error.
    """
    answer = http_request(get_default_host_creds(uri), "/version", "GET")  # type: ignore[no-untyped-call]
    answer.raise_for_status()
    return str(answer.text[:100].strip())


def list_prepared_studies(uri: str) -> dict[str, str]:
    """Return the studies with views in an MLflow store, the newest first: name → id of the experiment.

    Raises:
        UsageError: if the store does not answer.
    """
    experiments = connect_to_mlflow(uri).search_experiments(order_by=["creation_time DESC"])
    return {e.name: str(e.experiment_id) for e in experiments if f"{TAG}sweep" in e.tags}


def register_network(
    uri: str,
    study: str,
    name: str,
    network: Any,
    images: npt.NDArray[np.float32],
    *,
    description: str,
    tags: Mapping[str, str],
) -> str:
    """Log a network in a run of the study's experiment, register it, and return its address `models:/NAME/VERSION`.

    The version is the model's `candidate`.

    It is stored as torch's graph, which needs neither sweeper nor the network's library, and runs no code when loaded.

    Args:
        uri: store.
        study: name of the experiment.
        name: name of the registered model.
        network: torch module from images (N, C, H, W) to masks (N, H, W).
        images: example of its input, at least 2.
        description: of the version, in markdown.
        tags: of the version.

    Raises:
        UsageError: if the store does not answer, or torch cannot make a graph of the network.
    """
    from mlflow.pytorch import log_model  # loads torch

    inputs = TensorSpec(np.dtype(np.float32), (-1, images.shape[1], -1, -1))
    signature = ModelSignature(Schema([inputs]), Schema([TensorSpec(np.dtype(np.int64), (-1, -1, -1))]))
    before, client = mlflow.get_tracking_uri(), connect_to_mlflow(uri)
    variable = {name: os.environ[name] for name in os.environ.keys() & {"MLFLOW_TRACKING_URI"}}
    mlflow.set_tracking_uri(client.tracking_uri)  # also sets the variable
    advice = "The weights are kept: the same command registers them, without a training"
    try:
        with explain_store_errors(uri, advice), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and MLflow to those who made the graph
            mlflow.set_experiment(study)
            with mlflow.start_run(run_name=f"network {name}", nested=True, tags={"sweeper.kind": "network"}):
                made = log_model(
                    network,
                    name="network",
                    registered_model_name=name,
                    signature=signature,
                    input_example=images,
                    pip_requirements=[f"{package}=={version(package)}" for package in ("torch", "numpy")],
                    serialization_format="pt2",
                )
            number = str(made.registered_model_version)
            client.update_model_version(name, number, description)
            for key, value in tags.items():
                client.set_model_version_tag(name, number, key, value)
            client.set_registered_model_alias(name, ALIAS, number)
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ.update(variable)
    return f"models:/{name}/{number}"


def get_artifacts_address(store: Path, study: str) -> str:
    """Return the address of a study's files in MLflow: next to its SQLite store."""
    return (store.resolve().parent / "mlruns" / make_folder_name(study)).as_uri()


def has_files_elsewhere(store: Path, study: str, location: str) -> bool:
    """Return whether a study's files are not next to its store, because the store was moved or copied.

    MLflow stores only absolute addresses. A folder that the user chose for the experiment is accepted.
    """
    own_store = location.startswith("file:") and unquote(location).endswith(f"/mlruns/{make_folder_name(study)}")
    return own_store and location != get_artifacts_address(store, study)
