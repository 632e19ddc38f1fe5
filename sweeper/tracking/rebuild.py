"""MLflow's copy of a study, written again from what the study's storage holds.

A training whose run is there is completed, any other gets a new run under a name that follows from the study. So a call
that was cut off is simply repeated, and one call more makes no doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import Run

from sweeper.core.causes import cause
from sweeper.core.errors import SweeperError
from sweeper.core.paths import SPOOL
from sweeper.core.records import Conditions, ImbalanceProfile, SearchSpace, TrialResult, TrialSpec
from sweeper.core.redact import shown_address
from sweeper.core.text import count
from sweeper.tracking.courier import Courier
from sweeper.tracking.mlflow_connection import send_spooled
from sweeper.tracking.mlflow_writes import FILES, find_run, send
from sweeper.tracking.spool import Spool
from sweeper.tracking.tracker import PAUSED, STATUS, Tracker, rebuild_command
from sweeper.tracking.values import BEST, USED_FOR, BestSoFar, Values


class Training(NamedTuple):
    """A training as the study knows it."""

    result: TrialResult
    started: float
    """Seconds since 1970."""
    ended: float = 0.0
    """Seconds since 1970, of the search's trials: in this order they ended."""
    paused: bool = False
    """It waits at a rung, and `result` is what it gave so far."""


class Rebuilt(NamedTuple):
    """What was done."""

    runs: dict[str, str]
    """Id of each training's run, by `search/00012` and the like."""
    made: int
    """Runs that were missing."""
    completed: int
    """Runs that lacked something."""


class Rebuild(Tracker):
    """Writes one study to MLflow, from its results."""

    def __init__(self, uri: str, *, warn: Callable[[str], None], mark: str, spool: Path | None = None) -> None:
        """Connect.

        Args:
            uri: MLflow's tracking address.
            warn: is told what people should not miss.
            mark: tells this study from others of its name: the new runs are found by it.
            spool: folder of what could not be sent.

        Raises:
            UsageError: if the store cannot be reached.
        """
        self._now = 0.0
        self._mark = mark
        self._folder = spool or SPOOL
        super().__init__(uri, warn=warn, spool=spool, clock=lambda: self._now)

    def write(
        self,
        study: str,
        conditions: Conditions,
        trainings: Sequence[Training],
        *,
        parents: Sequence[str],
        settings: dict[str, str],
        created: float,
        found: Callable[[dict[str, str]], None],
        space: SearchSpace,
        profile: ImbalanceProfile,
    ) -> Rebuilt:
        """The sweep's run and those of its trainings; what is there already stays as it is.

        Args:
            study: its name, which is the experiment's.
            conditions: what its trainings share.
            trainings: all that the study holds.
            parents: the sweep's runs in any store, as the study knows them, the latest last.
            settings: parameters of the sweep's run besides the recipe.
            created: when the study was made, in seconds since 1970.
            found: is told ids of runs that were sent now and wait in the spool.
            space: what is searched, which the prepared views show.
            profile: of the data set, for its panel.

        Raises:
            SweeperError: if the store does not take it; a repeated call goes on from there.
        """
        self._values, self._undecided, self._study = Values(conditions, profile), (), study
        self._space = space
        spool = Spool(self._folder, study, self._uri)
        self._courier = Courier(self._client, spool, place=self._uri, warn=self._warn, found=found)
        self._now = created
        try:
            self._begin(study, self._known(parents, found), settings)
            self.decide(conditions)
            done = self._write(trainings)
            self._best_so_far(trainings)
        except SweeperError:
            raise
        except Exception as error:
            raise self._refused(error) from error
        self._now = max((t.started + t.result.seconds for t in trainings), default=created)
        return done

    def conclude(
        self,
        status: str,
        *,
        note: str,
        folder: Path,
        tags: dict[str, str],
        values: dict[str, float],
        finalists: Mapping[str, Path],
    ) -> None:
        """The sweep's end: its report, its verdict.

        Raises:
            SweeperError: if the store does not take it.
        """
        try:
            new = self._new(values)
            self.end_sweep(status, note=note, folder=folder, tags=tags, values=new, finalists=finalists)
        except SweeperError:
            raise
        except Exception as error:
            raise self._refused(error) from error

    def leave(self) -> None:
        """The sweep is not concluded: its run is as an interrupted one's.

        Raises:
            SweeperError: if the store does not take it.
        """
        try:
            self._post("status", "sweep", status="KILLED")
        except Exception as error:
            raise self._refused(error) from error

    # --- Inside ---------------------------------------------------------------------------------------------

    def _new(self, values: dict[str, float]) -> dict[str, float]:
        """What the sweep's run lacks of these: metrics are a history, and what it has would be there twice.

        The clock is set behind the points that it has of them, as MLflow shows the latest.
        """
        have = self._client.get_run(self.parent_run_id).data.metrics if values else {}
        new = {name: value for name, value in values.items() if have.get(name) != value}
        for name in new.keys() & have.keys():
            last = max(point.timestamp for point in self._client.get_metric_history(self.parent_run_id, name))
            self._now = max(self._now, (last + 1.5) / 1000)
        return new

    def _write(self, trainings: Sequence[Training]) -> Rebuilt:
        everything = self._client.search_runs([self.experiment_id], max_results=50_000)
        runs = {run.info.run_id: run for run in everything}
        by_number = {
            (run.data.tags.get("sweeper.kind", ""), run.data.tags.get("sweeper.trial", "")): run
            for run in reversed(self._children())  # the newest last
            if run.data.tags.get("sweeper.state") != "abandoned"
        }
        ids, made, completed = dict[str, str](), 0, 0
        for training in trainings:
            spec = training.result.spec
            name = f"{spec.purpose}/{spec.number:05d}"
            own = runs.get(training.result.run_id or "")
            own = own or by_number.get((self._values.tags(spec)["sweeper.kind"], str(spec.number)))
            wrote = self._training(training, own)
            made += own is None
            completed += own is not None and wrote
            ids[name] = self._courier.runs[self._keys.pop((spec.purpose, spec.number))]
        for run in self._children("RUNNING"):  # nobody's: this study is not being run
            self._client.set_terminated(run.info.run_id, "KILLED")
        return Rebuilt(ids, made, completed)

    def _best_so_far(self, trainings: Sequence[Training]) -> None:
        """What the sweep's run lacks of the search's course."""
        have = {point.step for point in self._client.get_metric_history(self.parent_run_id, BEST)}
        best = BestSoFar()
        for training in sorted((t for t in trainings if not t.paused), key=lambda t: t.ended):
            value = best.after(training.result)
            if value is not None and best.ended not in have:
                self._now = training.ended
                self._post("batch", "sweep", metrics=value, step=best.ended)

    def _known(self, parents: Sequence[str], found: Callable[[dict[str, str]], None]) -> str | None:
        """The sweep's run in this store; None where it has none.

        What waits for that run is sent first; what waits for one that is gone follows from the study.
        """
        experiment = self._client.get_experiment_by_name(self._study)
        if experiment is not None and experiment.lifecycle_stage != "active":
            raise SweeperError(
                f"MLflow at {shown_address(self._uri)}: the experiment {self._study!r} was deleted there, and "
                "its name is "
                f"still taken; restore it (mlflow experiments restore --experiment-id {experiment.experiment_id}), or "
                "delete it for good (mlflow gc), and repeat the command"
            )
        self.experiment_id = "" if experiment is None else experiment.experiment_id
        parent = next(
            (run_id for run_id in reversed(parents) if experiment is not None and self._is_here(run_id)), None
        )
        if parent is not None:
            _, left = send_spooled(self._uri, self._folder, self._study, warn=self._warn, found=found)
            first = Spool(self._folder, self._study, self._uri).first() if left else None
            if first is not None and first.operation.kind != FILES:  # files are written again at the end
                raise SweeperError(
                    f"MLflow at {shown_address(self._uri)} did not take all that waits for it "
                    f"({count(left, 'operation')}); "
                    f"repeat the command when it answers: {rebuild_command(self._study)}"
                )
            return parent
        Spool(self._folder, self._study, self._uri).remove()
        if experiment is None:
            return None
        return find_run(self._client, self._operation("create", self._key("sweep"), experiment=self.experiment_id))

    def _training(self, training: Training, own: Run | None) -> bool:
        """Write what its run lacks; whether anything was."""
        result, spec = training.result, training.result.spec
        self._now = training.started
        if own is None:
            self._start(spec)
        else:
            self._take_over(spec, own)
        key = self._keys[spec.purpose, spec.number]
        wrote = own is None
        for evaluation in result.evaluations:
            if evaluation.step not in self._steps[key]:
                self._now = training.started + evaluation.seconds
                self._post("batch", key, metrics=self._values.of_evaluation(evaluation), step=evaluation.step)
                wrote = True
        self._now = training.started + result.seconds
        if training.paused:
            if own is None or own.info.status != PAUSED:
                self._post("batch", key, tags={"sweeper.state": "waiting"})
                self._post("status", key, status=PAUSED)
                wrote = True
            return wrote
        if own is None or "seconds" not in own.data.metrics:
            values, tags = self._values.of_result(result)
            step = result.evaluations[-1].step if result.evaluations else 0
            self._post("batch", key, metrics=values, tags=tags, step=step)
            wrote = True
        if own is None or own.info.status != STATUS[result.state]:
            self._post("status", key, status=STATUS[result.state])
            wrote = True
        return wrote

    def _take_over(self, spec: TrialSpec, own: Run) -> None:
        key = self._keys[spec.purpose, spec.number] = self._key(f"{spec.purpose}/{spec.number:05d}")
        self._courier.runs[key] = own.info.run_id
        if own.data.tags.get("mlflow.parentRunId") != self.parent_run_id:
            self._post("batch", key, tags={"mlflow.parentRunId": self.parent_run_id})
        if own.data.metrics:
            self._steps[key] = {p.step for p in self._client.get_metric_history(own.info.run_id, "lr")}
        if own.inputs is None or not own.inputs.dataset_inputs:
            self._post("dataset", key, dataset=self._values.dataset(USED_FOR[spec.purpose]))
        lacking = {k: v for k, v in self._values.params(spec).items() if k not in own.data.params}
        if lacking:
            self._post("batch", key, params=lacking)

    def _key(self, name: str) -> str:
        return f"{name}/rebuilt/{self._mark}"

    def _post(self, kind: str, key: str, **fields: object) -> None:
        """At once, and what goes wrong is raised: nobody waits for this but the person who asked for it."""
        operation = self._operation(kind, key, **fields)
        self._courier.runs[key] = send(self._client, operation, operation.run_id or self._courier.runs.get(key, ""))

    def _refused(self, error: Exception) -> SweeperError:
        return SweeperError(
            f"MLflow at {shown_address(self._uri)} did not take everything: {cause(error)}. The study is whole; repeat "
            f"the command, which goes on from there: {rebuild_command(self._study)}"
        )
