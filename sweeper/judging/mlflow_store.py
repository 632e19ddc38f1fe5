"""The runs of an MLflow experiment, as MLflow has them; nothing is written.

A SQLite store is read by its tables, the five that MLflow has had since its first release with a database: its own
client takes some three seconds of the processor to load, and would bring an older store up to date. Servers and other
databases are asked through that client.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sweeper.core.causes import cause
from sweeper.core.errors import UsageError
from sweeper.core.redact import check_address, shown_address
from sweeper.core.text import listed, suggestion
from sweeper.system.locks import sqlite_file, sqlite_uri

PAGE = 1000
"""Runs that a server is asked for at a time."""


class Run(NamedTuple):
    """A run that is not deleted."""

    id: str
    name: str
    status: str
    """FINISHED, RUNNING, FAILED, KILLED or SCHEDULED."""
    artifacts: str
    """Address of the folder of its artifacts."""
    metrics: Mapping[str, float]
    """The last value of each."""
    fields: Mapping[str, str]
    """Parameters and tags; a parameter where both have the name."""


def runs_of(experiment: str, uri: str) -> list[Run]:
    """The runs of an experiment, the oldest first.

    Args:
        experiment: its name.
        uri: MLflow's tracking address.

    Raises:
        UsageError: if the store does not answer, or has no such experiment.
    """
    check_address("--tracking-uri", uri)
    path = sqlite_file(uri)
    if path is None:
        return _asked(experiment, uri)
    if not path.exists():
        raise UsageError(f"--tracking-uri must be an MLflow store that is there, got {uri}: no such file")
    try:
        connection = sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=30)
        try:
            return _selected(connection, experiment, uri)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(f"--tracking-uri must be an MLflow store, got {uri}: {cause(error)}") from error


def _selected(connection: sqlite3.Connection, experiment: str, uri: str) -> list[Run]:
    names = dict(
        connection.execute(
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active' ORDER BY experiment_id DESC"
        )
    )
    if experiment not in names:
        raise _no_experiment(experiment, names, uri)
    of = "JOIN runs USING (run_uuid) WHERE experiment_id = ? AND lifecycle_stage = 'active'"
    key = (names[experiment],)
    metrics: dict[str, dict[str, float]] = {}
    for run, name, value, is_nan in connection.execute(
        f"SELECT run_uuid, key, value, is_nan FROM latest_metrics {of}", key
    ):
        metrics.setdefault(run, {})[name] = float("nan") if is_nan else value
    fields: dict[str, dict[str, str]] = {}
    for table in ("tags", "params"):
        for run, name, text in connection.execute(f"SELECT run_uuid, key, {table}.value FROM {table} {of}", key):
            fields.setdefault(run, {})[name] = text
    found = connection.execute(
        "SELECT run_uuid, name, status, artifact_uri FROM runs "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid",
        key,
    )
    return [
        Run(run, name or run[:8], status, artifacts or "", metrics.get(run, {}), fields.get(run, {}))
        for run, name, status, artifacts in found
    ]


def _asked(experiment: str, uri: str) -> list[Run]:
    from sweeper.tracking import connect, no_store

    client = connect(uri)
    try:
        found = client.get_experiment_by_name(experiment)
        if found is None or found.lifecycle_stage != "active":
            raise _no_experiment(experiment, [each.name for each in client.search_experiments()], uri)
        runs, token = list[Run](), None
        while token is None or token:
            page = client.search_runs(
                [found.experiment_id], order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token
            )
            token = page.token or ""
            runs += [_run(each) for each in page]
    except Exception as error:
        raise no_store(uri, error) from error
    return runs


def _run(found: Any) -> Run:
    info, data = found.info, found.data
    name = info.run_name or info.run_id[:8]
    return Run(info.run_id, name, info.status, info.artifact_uri, data.metrics, {**data.tags, **data.params})


def _no_experiment(name: str, known: Any, uri: str) -> UsageError:
    near = suggestion(name, known) or f"; it has {listed(sorted(known)) or 'none'}"
    return UsageError(f"MLflow at {shown_address(uri)} has no experiment {name!r}{near}")


def artifact(run: Run, path: str, uri: str, folder: str) -> Path:
    """A run's artifact as a file on this machine; below `folder` where it was elsewhere.

    Raises:
        UsageError: if the run has none, or the store that has it does not answer.
    """
    parts = urlsplit(run.artifacts)
    if parts.scheme in ("", "file"):
        file = Path(unquote(parts.path) if parts.scheme else run.artifacts) / path
        if not file.is_file():
            raise UsageError("no such artifact")
        return file
    from sweeper.tracking import connect

    try:
        own = Path(folder, run.id)
        own.mkdir()
        return Path(connect(uri).download_artifacts(run.id, path, str(own)))
    except Exception as error:
        raise UsageError(cause(error)) from error
