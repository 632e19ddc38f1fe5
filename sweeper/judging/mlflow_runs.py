"""The runs of an MLflow experiment as a table of scores: a metric of each run; nothing is written.

Parameters and tags say the method of each run, and its seed. A SQLite store is read by its tables, the five that MLflow
has had since its first release with a database: its own client takes some three seconds of the processor to load, and
would bring an older store up to date. Servers and other databases are asked through that client.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.core.errors import UsageError
from sweeper.core.redact import check_address, shown_address
from sweeper.core.text import count, listed, suggestion
from sweeper.judging.read import Runs
from sweeper.judging.rows import Asked, Scores, ScoresError, some
from sweeper.system.locks import sqlite_file, sqlite_uri
from sweeper.system.system_errors import cause

STATUS = "status"
"""What `where` calls MLflow's own status of a run."""
PARENT = "mlflow.parentRunId"
LARGEST = 1.7976931348623157e308
"""What MLflow's databases keep of an infinite value."""
PAGE = 1000
"""Runs that a server is asked for at a time."""


def read_runs(experiment: str, which: Runs, asked: Asked) -> Scores:
    """The scores of these runs.

    Raises:
        ScoresError: with all that is wrong with them.
        UsageError: if the store does not answer, or has no such experiment.
    """
    source = f"MLflow's experiment {experiment!r} ({shown_address(which.tracking_uri)})"
    reader = _Reader(runs_of(experiment, which.tracking_uri), which, asked)
    columns = reader.columns()
    if reader.problems:
        raise ScoresError(source, reader.problems)
    return Scores(columns, source, notes=tuple(reader.notes), metric=reader.metric)


class _Reader:
    def __init__(self, runs: Sequence[Run], which: Runs, asked: Asked) -> None:
        self.which, self.asked = which, asked
        self.problems, self.notes = list[str](), list[str]()
        self.metric = asked.metric
        self.method, self.seed = (asked.columns.get(key, key) for key in ("method", "seed"))
        self.runs = self._chosen(runs)

    def _chosen(self, runs: Sequence[Run]) -> list[Run]:
        """The runs that are asked for; one that has children and says no method holds those together, and is none."""
        known = {STATUS, *(name for run in runs for name in run.fields)}
        unknown = [name for name in self.which.where if name not in known]
        self.problems += [
            f"--where must name a parameter, a tag or {STATUS}, got {name!r}{suggestion(name, known)}"
            for name in unknown
        ]
        asked = [run for run in runs if all(_value(run, k) == v for k, v in self.which.where.items())]
        parents = {run.fields.get(PARENT) for run in runs}
        found = [run for run in asked if run.id not in parents or self.method in run.fields]
        for left, why in (
            (len(runs) - len(asked), "that --where does not ask for"),
            (len(asked) - len(found), "with children and without a method of its own"),
        ):
            self.notes += [f"{count(left, 'run')} {why}: left out."] if left else []
        if not found and not unknown:
            self.problems.append(f"at least one run is needed, got none that counts of {count(len(runs), 'run')}")
        return found

    def columns(self) -> dict[str, list[Any]]:
        """A row for each run; nothing where `problems` says why not."""
        if self.problems:
            return {}
        self._unfinished()
        self._methods()
        seeds = self._seeds()
        values = self._values()
        if self.problems or self.metric is None:
            return {}
        methods = [run.fields[self.method] for run in self.runs]
        return {self.metric: values, self.method: methods, self.seed: seeds}

    def _unfinished(self) -> None:
        open_runs = [f"{run.name} {run.status}" for run in self.runs if run.status != "FINISHED"]
        if open_runs:
            self.problems.append(
                f"{count(len(open_runs), 'run')} not finished ({some(open_runs)}): wait for them, or leave them out "
                f"with --where {STATUS}=FINISHED; a run that failed for what its method is counts with the score that "
                "it is worth"
            )

    def _methods(self) -> None:
        without = [run.name for run in self.runs if not run.fields.get(self.method)]
        if len(without) == len(self.runs):
            names = sorted({name for run in self.runs for name in run.fields if not name.startswith("mlflow.")})
            self.problems.append(
                f"a parameter or tag must say the method of each run, got none called {self.method!r}; name it with "
                f"--column method=NAME; there are {some(names, most=8) or 'none'}"
            )
        elif without:
            self.problems.append(
                f"{count(len(without), 'run')} without the parameter or tag {self.method!r} ({some(without)}), which "
                "says the method: add the tag, or leave them out with --where"
            )

    def _seeds(self) -> list[str]:
        """The seed of each run; where none has one every run is a training of its own, called by its name."""
        without = [run.name for run in self.runs if not run.fields.get(self.seed)]
        if len(without) == len(self.runs) and "seed" not in self.asked.columns:
            if self.asked.paired_seeds:
                self.problems.append("--paired-seeds needs a parameter or tag `seed` (or --column seed=NAME), got none")
            twice = {name for name, times in Counter(run.name for run in self.runs).items() if times > 1}
            return [f"{run.name} {run.id[:8]}" if run.name in twice else run.name for run in self.runs]
        if without:
            self.problems.append(
                f"{count(len(without), 'run')} without the parameter or tag {self.seed!r} ({some(without)}), which "
                "tells trainings apart: add the tag, or leave them out with --where"
            )
        of: dict[tuple[str, str], list[str]] = {}
        for run in self.runs:
            if run.fields.get(self.seed) and run.fields.get(self.method):
                of.setdefault((run.fields[self.method], run.fields[self.seed]), []).append(run.name)
        for (method, seed), names in of.items():
            if len(names) > 1:
                self.problems.append(
                    f"{method}, seed {seed}, has {len(names)} runs ({some(names)}): delete all but one in MLflow, or "
                    "leave them out with --where"
                )
        return [run.fields.get(self.seed, "") for run in self.runs]

    def _values(self) -> list[float | None]:
        """The score of each run."""
        known = {name for run in self.runs for name in run.metrics}
        if self.metric is None and len(known) == 1:
            self.metric = next(iter(known))
        if self.metric not in known:
            near = suggestion(self.metric or "", known) or f"; they have {some(sorted(known), most=8) or 'none'}"
            self.problems.append(f"--metric must name a metric of the runs, got {self.metric or 'none'}{near}")
            return []
        without = [run.name for run in self.runs if self.metric not in run.metrics]
        if without:
            self.problems.append(
                f"{count(len(without), 'run')} without the metric {self.metric!r} ({some(without)}): log it, or leave "
                "them out with --where"
            )
        values = [(run.name, run.metrics[self.metric]) for run in self.runs if self.metric in run.metrics]
        lost = [f"{name} {value:g}" for name, value in values if not abs(value) < LARGEST]
        if lost:
            self.problems.append(
                f"{count(len(lost), 'run')} whose {self.metric!r} is no finite number ({some(lost)}): a run that "
                "diverged gets the score that it is worth"
            )
        return [run.metrics.get(self.metric) for run in self.runs]


def _value(run: Run, name: str) -> str | None:
    return run.status if name == STATUS else run.fields.get(name)


# --- The store ----------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A run that is not deleted."""

    id: str
    name: str
    status: str
    """FINISHED, RUNNING, FAILED, KILLED or SCHEDULED."""
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
        "SELECT run_uuid, name, status FROM runs "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid",
        key,
    )
    return [Run(run, name or run[:8], status, metrics.get(run, {}), fields.get(run, {})) for run, name, status in found]


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
    return Run(info.run_id, name, info.status, data.metrics, {**data.tags, **data.params})


def _no_experiment(name: str, known: Any, uri: str) -> UsageError:
    near = suggestion(name, known) or f"; it has {listed(sorted(known)) or 'none'}"
    return UsageError(f"MLflow at {shown_address(uri)} has no experiment {name!r}{near}")
