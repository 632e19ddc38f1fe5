"""The runs of an MLflow experiment as a table of scores, one metric of each run; nothing is written.

A run's parameters and tags contain its method and seed; the score is the metric's last value, or that selected by
`--at`. The tables of a SQLite store are read directly, the six that MLflow has had since its first release with a
database: its client takes some three seconds to load, and would migrate an older store. Servers and other databases are
queried through that client.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.core.error_causes import get_cause
from sweeper.core.errors import UsageError, check_address
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_count, join_words, suggest_correction
from sweeper.judging.row_choice import Entries, parse_choice
from sweeper.judging.rows import ScoreRequest, ScoreRows, ScoresError, abbreviate_names
from sweeper.system.locks import get_sqlite_file, make_sqlite_uri

STATUS = "status"
"""Name in `where` for MLflow's own status of a run."""
PARENT = "mlflow.parentRunId"
STORED_INFINITY = 1.7976931348623157e308
"""Value that MLflow's databases store for an infinite one."""
PAGE = 1000
"""Number of runs per request to a server."""


def read_runs(experiment: str, request: ScoreRequest) -> ScoreRows:
    """Return the scores of these runs.

    Raises:
        ScoresError: with all of their problems.
        UsageError: if the store does not answer, or has no such experiment.
    """
    source = f"MLflow's experiment {experiment!r} ({hide_address_secrets(request.tracking_uri)})"
    choice = parse_choice(request.at, request.metric)
    metrics = () if choice.kind == "last" else tuple(filter(None, (request.metric, choice.name)))
    reader = _Reader(list_runs(experiment, request.tracking_uri, metrics), request)
    columns = reader.read_columns()
    if reader.problems:
        raise ScoresError(source, reader.problems)
    return ScoreRows(columns, source, notes=tuple(reader.notes), metric=reader.metric)


class _Reader:
    def __init__(self, runs: Sequence[TrackedRun], request: ScoreRequest) -> None:
        self.request = request
        self.problems, self.notes = list[str](), list[str]()
        self.metric, self.choice = request.metric, parse_choice(request.at, request.metric)
        self.method, self.seed = (request.columns.get(key, key) for key in ("method", "seed"))
        self.runs = self._choose_runs(runs)

    def _choose_runs(self, runs: Sequence[TrackedRun]) -> list[TrackedRun]:
        """Return the requested runs, without those that only group others: they have children and no method."""
        names = {STATUS, *(name for run in runs for name in run.fields)}
        unknown = [name for name in self.request.where if name not in names]
        self.problems += [
            f"--where must name a parameter, a tag or {STATUS}, got {name!r}{suggest_correction(name, names)}"
            for name in unknown
        ]
        where = self.request.where.items()
        requested = [run for run in runs if all({**run.fields, STATUS: run.status}.get(k) == v for k, v in where)]
        parents = {run.fields.get(PARENT) for run in runs}
        chosen = [run for run in requested if run.id not in parents or self.method in run.fields]
        for remaining, why in (
            (len(runs) - len(requested), "that --where does not ask for"),
            (len(requested) - len(chosen), "with children and without a method of its own"),
        ):
            self.notes += [f"{format_count(remaining, 'run')} {why}: left out."] if remaining else []
        if not chosen and not unknown:
            self.problems.append(
                f"at least one run is needed, got none that counts of {format_count(len(runs), 'run')}"
            )
        return chosen

    def read_columns(self) -> dict[str, list[Any]]:
        """Return a row for each run; nothing if there are `problems`."""
        if self.problems:
            return {}
        self._find_unfinished()
        self._read_methods()
        seeds = self._read_seeds()
        values = self._read_values()
        if self.problems or self.metric is None:
            return {}
        methods = [run.fields[self.method] for run in self.runs]
        return {self.metric: values, self.method: methods, self.seed: seeds}

    def _find_unfinished(self) -> None:
        open_runs = [f"{run.name} {run.status}" for run in self.runs if run.status != "FINISHED"]
        if open_runs:
            self.problems.append(
                f"{format_count(len(open_runs), 'run')} not finished ({abbreviate_names(open_runs)}): wait for them, "
                f"or leave them out with --where {STATUS}=FINISHED; a run that failed for what its method is counts "
                "with the score that it is worth"
            )

    def _read_methods(self) -> None:
        without = [run.name for run in self.runs if not run.fields.get(self.method)]
        if len(without) == len(self.runs):
            names = sorted({name for run in self.runs for name in run.fields if not name.startswith("mlflow.")})
            self.problems.append(
                f"a parameter or tag must say the method of each run, got none called {self.method!r}; name it with "
                f"--column method=NAME; there are {abbreviate_names(names, most=8) or 'none'}"
            )
        elif without:
            self.problems.append(
                f"{format_count(len(without), 'run')} without the parameter or tag {self.method!r} "
                f"({abbreviate_names(without)}), which says the method: add the tag, or leave them out with --where"
            )

    def _read_seeds(self) -> list[str]:
        """Return the seed of each run; if none has one, each run is a separate training, identified by its name."""
        without = [run.name for run in self.runs if not run.fields.get(self.seed)]
        if len(without) == len(self.runs) and "seed" not in self.request.columns:
            if self.request.paired_seeds:
                self.problems.append("--paired-seeds needs a parameter or tag `seed` (or --column seed=NAME), got none")
            twice = {name for name, times in Counter(run.name for run in self.runs).items() if times > 1}
            return [f"{run.name} {run.id[:8]}" if run.name in twice else run.name for run in self.runs]
        if without:
            self.problems.append(
                f"{format_count(len(without), 'run')} without the parameter or tag {self.seed!r} "
                f"({abbreviate_names(without)}), which "
                "distinguishes trainings: add the tag, or leave them out with --where"
            )
        names_by_training: dict[tuple[str, str], list[str]] = {}
        for run in self.runs:
            if run.fields.get(self.seed) and run.fields.get(self.method):
                names_by_training.setdefault((run.fields[self.method], run.fields[self.seed]), []).append(run.name)
        for (method, seed), names in names_by_training.items():
            if len(names) > 1:
                self.problems.append(
                    f"{method}, seed {seed}, has {len(names)} runs ({abbreviate_names(names)}): delete all but one in "
                    "MLflow, or leave them out with --where"
                )
        return [run.fields.get(self.seed, "") for run in self.runs]

    def _read_values(self) -> list[float | None]:
        """Return the score of each run."""
        names, choice = {name for run in self.runs for name in run.metrics}, self.choice
        if self.metric is None and len(names) == 1 and choice.kind == "last":
            self.metric = next(iter(names))
        deciding = self.metric if choice.kind in ("last", "step") else choice.name
        options = (("--metric", self.metric, "a metric of the runs"), ("--at", deciding, "a logged value"))
        for option, name, rule in options:
            if name not in names:
                have = f"; they have {abbreviate_names(sorted(names), most=8) or 'none'}"
                near = suggest_correction(name or "", names) or have
                self.problems.append(f"{option} must name {rule}, got {name or 'none'}{near}")
                return []
        assert self.metric is not None
        self.notes.append(choice.format_note(self.metric))
        last, metric = choice.kind == "last", self.metric
        values = [run.metrics.get(metric) if last else choice.find_value(run.entries, metric) for run in self.runs]
        without = [run.name for run, value in zip(self.runs, values, strict=True) if value is None]
        if without:
            at, remedy = ("", "log it") if last else (f" ({choice})", "log it there, take --at last")
            self.problems.append(
                f"{format_count(len(without), 'run')} without the metric {self.metric!r}{at} "
                f"({abbreviate_names(without)}): {remedy}, or leave them out with --where"
            )
        pairs = zip(self.runs, values, strict=True)
        lost = [
            f"{run.name} {value:g}" for run, value in pairs if value is not None and not abs(value) < STORED_INFINITY
        ]
        if lost:
            self.problems.append(
                f"{format_count(len(lost), 'run')} whose {self.metric!r} is no finite number "
                f"({abbreviate_names(lost)}): a run that diverged gets the score that it is worth"
            )
        return values


# --- The store ----------------------------------------------------------------------------------------------


class TrackedRun(NamedTuple):
    """A run that is not deleted."""

    id: str
    name: str
    status: str
    """FINISHED, RUNNING, FAILED, KILLED or SCHEDULED."""
    metrics: Mapping[str, float]
    """The last value of each metric."""
    fields: Mapping[str, str]
    """Parameters and tags; a parameter takes precedence over a tag of the same name."""
    entries: Entries
    """Values of each step, for the metrics whose history was requested."""


def list_runs(experiment: str, uri: str, history: Sequence[str]) -> list[TrackedRun]:
    """Return the runs of an experiment, the oldest first; with the values of all steps of the metrics in `history`.

    Raises:
        UsageError: if the store does not answer, or has no such experiment.
    """
    check_address("--tracking-uri", uri)
    path = get_sqlite_file(uri)
    if path is None:
        return _request_runs(experiment, uri, history)
    if not path.exists():
        raise UsageError(f"--tracking-uri must be an MLflow store that is there, got {uri}: no such file")
    try:
        connection = sqlite3.connect(make_sqlite_uri(path, "ro"), uri=True, timeout=30)
        try:
            return _select_runs(connection, experiment, uri, history)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(f"--tracking-uri must be an MLflow store, got {uri}: {get_cause(error)}") from error


def _select_runs(connection: sqlite3.Connection, experiment: str, uri: str, history: Sequence[str]) -> list[TrackedRun]:
    names = dict(
        connection.execute(
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active' ORDER BY experiment_id DESC"
        )
    )
    if experiment not in names:
        raise _explain_missing_experiment(experiment, names, uri)
    join = "JOIN runs USING (run_uuid) WHERE experiment_id = ? AND lifecycle_stage = 'active'"
    key = (names[experiment],)
    metrics: dict[str, dict[str, float]] = {}
    for run, name, value, is_nan in connection.execute(
        f"SELECT run_uuid, key, value, is_nan FROM latest_metrics {join}", key
    ):
        metrics.setdefault(run, {})[name] = float("nan") if is_nan else value
    logged: dict[str, list[tuple[str, int, float]]] = {}
    if history:
        rows = connection.execute(
            f"SELECT run_uuid, key, step, value, is_nan FROM metrics {join} "
            f"AND key IN ({', '.join('?' * len(history))}) ORDER BY step, timestamp",
            (*key, *history),
        )
        for run, name, step, value, is_nan in rows:
            logged.setdefault(run, []).append((name, step, float("nan") if is_nan else value))
    fields: dict[str, dict[str, str]] = {}
    for table in ("tags", "params"):
        for run, name, text in connection.execute(f"SELECT run_uuid, key, {table}.value FROM {table} {join}", key):
            fields.setdefault(run, {})[name] = text
    rows = connection.execute(
        "SELECT run_uuid, name, status FROM runs "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid",
        key,
    )
    return [
        TrackedRun(
            run, name or run[:8], status, metrics.get(run, {}), fields.get(run, {}), _join_steps(logged.get(run, ()))
        )
        for run, name, status in rows
    ]


def _join_steps(values: Iterable[tuple[str, int, float]]) -> Entries:
    """Make an entry for each step from (metric, step, value) tuples in logging order."""
    entries: dict[int, dict[str, float]] = {}
    for name, step, value in values:
        entries.setdefault(step, {"step": step})[name] = value if abs(value) < STORED_INFINITY else math.nan
    return [entries[step] for step in sorted(entries)]


def _request_runs(experiment: str, uri: str, history: Sequence[str]) -> list[TrackedRun]:
    from sweeper.tracking import connect_to_mlflow, explain_missing_store

    client = connect_to_mlflow(uri)
    try:
        experiment_info = client.get_experiment_by_name(experiment)
        if experiment_info is None or experiment_info.lifecycle_stage != "active":
            raise _explain_missing_experiment(experiment, [each.name for each in client.search_experiments()], uri)
        runs, token = list[TrackedRun](), None
        while token is None or token:
            page = client.search_runs(
                [experiment_info.experiment_id],
                order_by=["attributes.start_time ASC"],
                max_results=PAGE,
                page_token=token,
            )
            token = page.token or ""
            for each in page:
                info, data = each.info, each.data
                logged = [m for name in history for m in client.get_metric_history(info.run_id, name)]
                logged.sort(key=lambda m: (m.step, m.timestamp))
                entries = _join_steps((m.key, m.step, m.value) for m in logged)
                fields = {**data.tags, **data.params}
                name = info.run_name or info.run_id[:8]
                runs.append(TrackedRun(info.run_id, name, info.status, data.metrics, fields, entries))
    except Exception as error:
        raise explain_missing_store(uri, error) from error
    return runs


def _explain_missing_experiment(name: str, names: Any, uri: str) -> UsageError:
    near = suggest_correction(name, names) or f"; it has {join_words(sorted(names)) or 'none'}"
    return UsageError(f"MLflow at {hide_address_secrets(uri)} has no experiment {name!r}{near}")
