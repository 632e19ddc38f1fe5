"""The runs of an MLflow experiment as a table of scores: a metric of each run, or a table among its artifacts.

Parameters and tags say the method of each run, and its seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from sweeper.core.errors import UsageError
from sweeper.core.redact import shown_address
from sweeper.core.text import count, listed, suggestion
from sweeper.judging.mlflow_store import Run, artifact, runs_of
from sweeper.judging.read import Runs, read_table
from sweeper.judging.rows import Asked, Columns, Scores, ScoresError, some

STATUS = "status"
"""What `where` calls MLflow's own status of a run."""
PARENT = "mlflow.parentRunId"
LARGEST = 1.7976931348623157e308
"""What MLflow's databases keep of an infinite value."""


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
        """A row for each run, or for each row of its table; nothing where `problems` says why not."""
        if self.problems:
            return {}
        self._unfinished()
        self._methods()
        seeds = self._seeds()
        rows, columns = self._metrics() if self.which.artifact is None else self._tables(self.which.artifact)
        if self.problems:
            return {}
        methods = [self.runs[r].fields[self.method] for r in rows]
        return columns | {self.method: methods, self.seed: [seeds[r] for r in rows]}

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
            values: dict[str, set[str]] = {}
            for run in self.runs:
                for name, value in run.fields.items():
                    if not name.startswith("mlflow."):
                        values.setdefault(name, set()).add(value)
            telling = sorted((len(of), name) for name, of in values.items() if len(of) > 1)
            which = f"; of several values are {some([name for _, name in telling], most=8)}" if telling else ""
            self.problems.append(
                f"a parameter or tag must say the method of each run, got none called {self.method!r}; name it with "
                f"--column method=NAME{which}"
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

    def _metrics(self) -> tuple[list[int], dict[str, list[Any]]]:
        """The run of each row, and the column of the scores."""
        known = {name for run in self.runs for name in run.metrics}
        if self.metric is None and len(known) == 1:
            self.metric = next(iter(known))
        if self.metric not in known:
            near = suggestion(self.metric or "", known) or f"; they have {some(sorted(known), most=8) or 'none'}"
            self.problems.append(f"--metric must name a metric of the runs, got {self.metric or 'none'}{near}")
            return [], {}
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
        return [*range(len(self.runs))], {self.metric: [run.metrics.get(self.metric) for run in self.runs]}

    def _tables(self, path: str) -> tuple[list[int], dict[str, list[Any]]]:
        """The run of each row, and the columns of all tables one below the other."""
        tables, lacking = list[Columns](), dict[str, list[str]]()
        with TemporaryDirectory(prefix="sweeper-judge-") as folder:
            for run in self.runs:
                try:
                    tables.append(read_table(artifact(run, path, self.which.tracking_uri, folder)))
                except ScoresError as error:
                    self.problems += [f"{path} of run {run.name}: {problem}" for problem in error.problems]
                except UsageError as error:
                    lacking.setdefault(str(error), []).append(run.name)
        for why, without in lacking.items():
            self.problems.append(f"{count(len(without), 'run')} without the artifact {path} ({some(without)}): {why}")
        names = dict.fromkeys(name for table in tables for name in table)
        if self.problems:
            return [], {}
        for run, table in zip(self.runs, tables, strict=True):
            if missing := [name for name in names if name not in table]:
                self.problems.append(
                    f"{path} of run {run.name} must have the columns of the others, got no {listed(missing)}"
                )
                return [], {}
        columns: dict[str, list[Any]] = {name: [value for table in tables for value in table[name]] for name in names}
        return [r for r, table in enumerate(tables) for _ in next(iter(table.values()))], columns


def _value(run: Run, name: str) -> str | None:
    return run.status if name == STATUS else run.fields.get(name)
