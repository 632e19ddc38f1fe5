"""The runs of an MLflow experiment as a table of scores, a row for each logged step; nothing is written.

A run's parameters and tags contain its method and seed. Of a SQLite store a copy is read, as MLflow's client would
migrate an older one.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sweeper.core.errors import UsageError, check_address, get_cause
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import abbreviate_names, format_count, suggest_or_list
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows, ScoresError
from sweeper.judging.steps import parse_choice
from sweeper.system.locks import get_sqlite_path, make_sqlite_uri

STATUS = "status"
"""Name in `where` for MLflow's own status of a run."""
PARENT = "mlflow.parentRunId"
PAGE = 1000
"""Number of runs per request to a server."""


class TrackedRun(NamedTuple):
    """A run that is not deleted."""

    id: str
    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    """With the run's status."""
    metrics: frozenset[str]
    """Names of its metrics."""
    points: Sequence[tuple[str, int, float]]
    """(metric, step, value) of the requested metrics, in the order of logging."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Tags and parameters; a parameter takes precedence over a tag of the same name."""
        return {**self.tags, **self.params}


def read_runs(experiment: str, request: ScoreRequest) -> ScoreRows:
    """Return the values of the requested metric, and of the one that `--at` chooses by, of each run and step.

    Without seeds each run is a training, and parameters that differ between those of a method are columns.

    Raises:
        ScoresError: with all problems of the runs.
        UsageError: if the store does not answer, or has no such experiment.
    """
    wanted = [request.metric or "none", *parse_choice(request.at, request.metric).names]
    every = list_runs(experiment, request.tracking_uri, wanted)
    names = {key: request.column.get(key, key) for key in ("method", "seed", "step")}
    requested = [run for run in every if request.where.items() <= run.fields.items()]
    parents = {run.tags.get(PARENT) for run in every}  # without a method or score of their own they only group others
    own = {names["method"], request.metric} - {None}
    grouping = {run.id for run in requested if not own <= run.fields.keys() | run.metrics} & parents
    runs = [run for run in requested if run.id not in grouping]
    metrics = sorted({name for run in runs for name in run.metrics})
    if request.metric is None and len(metrics) == 1:
        return read_runs(experiment, request.model_copy(update={"metric": metrics[0]}))
    has_seeds = "seed" in request.column or any(names["seed"] in run.fields for run in runs)
    identity = ["method", "seed"] if has_seeds else ["method"]
    fields = sorted({name for run in every for name in run.fields if not name.startswith("mlflow.")})
    asked = [("--where", name, fields) for name in request.where]
    if runs:
        asked += [(f"--column {key}=NAME", names[key], fields) for key in identity]
        asked += [("--metric and --at", name, metrics) for name in wanted]
    source = f"MLflow's experiment {experiment!r} ({hide_address_secrets(request.tracking_uri)})"
    unknown = [
        f"{option} must name what the runs have, got {name}{suggest_or_list(name, known)}"
        for option, name, known in asked
        if name not in known
    ]
    ScoresError.refuse(source, [*unknown, *_find_unfit_runs(runs, [names[key] for key in identity])])
    first = {run.fields.get(names["method"]): run.params for run in reversed(runs)}
    differing = {
        name for run in runs for name, _ in run.params.items() ^ first[run.fields.get(names["method"])].items()
    }
    is_named = len({run.name for run in runs}) == len(runs)
    rows, labels = list[dict[str, Any]](), list[str]()
    for run in runs:
        label = run.name if is_named else f"{run.name} {run.id[:8]}"
        entries: dict[int, dict[str, Any]] = {} if run.points else {0: {}}
        for metric, step, value in run.points:  # a text, as a value that was logged as NaN is not missing
            entries.setdefault(step, {})[metric] = str(value)
        keys = {names[key]: run.fields.get(names[key]) for key in identity}
        if not has_seeds:
            keys |= {names["seed"]: label, **{name: run.params.get(name) for name in differing}}
        rows += [{**keys, names["step"]: step, **values} for step, values in entries.items()]
        labels += [label] * len(entries)
    counts = {
        "that --where does not ask for": len(every) - len(requested),
        "with children and without a method and score of its own": len(requested) - len(runs),
    }
    notes = tuple(f"{format_count(count, 'run')} {why}: left out." for why, count in counts.items() if count)
    return ScoreRows(pd.DataFrame(rows), source, notes, request.metric, run_names=labels)


def _find_unfit_runs(runs: Sequence[TrackedRun], identity: Sequence[str]) -> Iterator[str]:
    """Yield the problems of runs that have not ended well, and of several with one method and seed."""
    if not runs:
        yield "at least one run is needed, got none that --where asks for"
    unfinished = [f"{run.name} {run.tags[STATUS]}" for run in runs if run.tags[STATUS] != "FINISHED"]
    if unfinished:
        yield (
            f"each run must be finished, got {abbreviate_names(unfinished)}; wait, or leave them out with --where "
            f"{STATUS}=FINISHED; a run that failed for what its method is counts with the score that it is worth"
        )
    alike: dict[str, list[str]] = {}
    for run in runs:
        alike.setdefault(", ".join(run.fields.get(name, run.id) for name in identity), []).append(run.name)
    for training, names in alike.items():
        if len(names) > 1 and len(identity) > 1:
            yield (
                f"{training} must have one run, got {abbreviate_names(names)}; delete all but one in MLflow, or leave "
                "them out with --where"
            )


# --- The store ----------------------------------------------------------------------------------------------


def list_runs(experiment: str, uri: str, metrics: Sequence[str]) -> list[TrackedRun]:
    """Return the runs of an experiment, the oldest first, with the values of these metrics.

    Raises:
        UsageError: if the store does not answer, or has no such experiment.
    """
    check_address("--tracking-uri", uri)
    path = get_sqlite_path(uri)
    if path is None:
        return _request_runs(experiment, uri, uri, metrics)
    if not path.exists():
        raise UsageError(f"--tracking-uri must be an MLflow store that is there, got {uri}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "mlflow.db"
        try:
            with (
                closing(sqlite3.connect(make_sqlite_uri(path, "ro"), uri=True, timeout=30)) as store,
                closing(sqlite3.connect(copy)) as target,
            ):
                store.backup(target)
        except sqlite3.Error as error:
            raise UsageError(f"--tracking-uri must be an MLflow store, got {uri}: {get_cause(error)}") from error
        return _request_runs(experiment, uri, f"sqlite:///{copy}", metrics)


def _request_runs(experiment: str, uri: str, address: str, metrics: Sequence[str]) -> list[TrackedRun]:
    """Return the runs of the store at `address`, a copy or the store itself, which the user called `uri`."""
    from sweeper.tracking import connect_to_mlflow, explain_store_errors

    client = connect_to_mlflow(address)
    with explain_store_errors(uri, "Start the server, or name another"):
        ids = {each.name: each.experiment_id for each in client.search_experiments()}
        if experiment not in ids:
            near = suggest_or_list(experiment, sorted(ids))
            raise UsageError(f"MLflow at {hide_address_secrets(uri)} has no experiment {experiment!r}{near}")
        runs, token = list[TrackedRun](), None
        while token is None or token:
            page = client.search_runs(
                [ids[experiment]], "", order_by=["start_time ASC"], max_results=PAGE, page_token=token
            )
            token = page.token or ""
            for info, data in ((run.info, run.data) for run in page):
                logged = [
                    m for name in metrics if name in data.metrics for m in client.get_metric_history(info.run_id, name)
                ]
                logged.sort(key=lambda m: (m.step, m.timestamp))
                points = [(m.key, m.step, float(m.value)) for m in logged]
                tags = {**data.tags, STATUS: info.status}
                name = info.run_name or info.run_id[:8]
                runs.append(TrackedRun(info.run_id, name, data.params, tags, frozenset(data.metrics), points))
    return runs
