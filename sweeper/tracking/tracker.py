"""A sweep as a tree of MLflow runs: one for the sweep, a child for each training.

Experiment = study. Tags: `sweeper.kind` (sweep, trial, confirm, recheck, probe), `sweeper.family`, `sweeper.trial`,
`sweeper.state`, `sweeper.collapse`, and `mlflow.parentRunId`, which makes the tree. Runs are addressed by their ids
throughout: the fluent API keeps the active run in global state.
"""

from __future__ import annotations

import shlex
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sweeper.core.causes import cause
from sweeper.core.errors import UsageError
from sweeper.core.events import Dropped, Evaluated, Paused, Resumed, Started, SweepEvent
from sweeper.core.paths import SPOOL, STORAGE
from sweeper.core.records import Conditions, Evaluation, ImbalanceProfile, SearchSpace, TrialResult, TrialSpec
from sweeper.core.redact import shown_address
from sweeper.core.text import count, resume_command
from sweeper.system.locks import sqlite_path
from sweeper.system.same_file import SameFile
from sweeper.tracking.bounded_requests import hurry_when
from sweeper.tracking.courier import Courier
from sweeper.tracking.mlflow_connection import END_PATIENCE, PATIENCE, artifacts_of, connect, no_store
from sweeper.tracking.mlflow_writes import FILE_ATTEMPTS, Operation, send
from sweeper.tracking.prepared_views import prepared_views
from sweeper.tracking.spool import Spool
from sweeper.tracking.values import EXPERIMENT_NOTE_LIMIT, NOTE, NOTE_LIMIT, USED_FOR, BestSoFar, Values

STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
PAUSED = "SCHEDULED"
"""MLflow's status of a run that waits: RUNNING is what somebody works on."""


def rebuild_command(study: str) -> str:
    """The command that writes a study's runs to MLflow again."""
    return f"sweeper mlflow {shlex.quote(study)}"


def _nothing(_: dict[str, str]) -> None:
    """Nobody wants to know."""


def _cut(note: str) -> str:
    return note if len(note) <= NOTE_LIMIT else note[: NOTE_LIMIT - 1] + "…"


class Tracker:
    """Writes one sweep to MLflow.

    While the store is away what it is to be told is kept in `spool`, and the sweep goes on.
    """

    def __init__(
        self,
        uri: str,
        *,
        warn: Callable[[str], None],
        spool: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect, creating and migrating a SQLite store.

        Args:
            uri: MLflow's tracking address.
            warn: is told when the store goes away and comes back.
            spool: folder for what cannot be sent; None = `.sweeper/spool` in the working folder.
            say: is told how far it is where the end takes long.
            stopped: whether somebody asked not to wait any longer.
            clock: seconds since 1970, for the runs' times.

        Raises:
            UsageError: if the store cannot be reached.
        """
        self._uri, self._warn, self._say, self._stopped, self._clock = uri, warn, say, stopped, clock
        hurry_when(stopped)
        self._spool_folder = spool or SPOOL
        self._keys: dict[tuple[str, int], str] = {}
        self._paused: set[tuple[str, int]] = set()
        self._steps: defaultdict[str, set[int]] = defaultdict(set)
        """Steps whose evaluations were written, by run."""
        self._earlier: dict[tuple[str, str], str] = {}
        """Runs of earlier sessions that are not over, by kind and number; the newest of each."""
        self.experiment_id = ""
        self.parent_run_id = ""
        self._space: SearchSpace | None = None
        self._best = BestSoFar()
        self._told_lost = False
        try:
            self._client = connect(uri, warn)
            path = sqlite_path(uri)
            self._file = None if path is None else SameFile(path)
        except Exception as error:
            raise no_store(uri, error) from error

    # --- The sweep ------------------------------------------------------------------------------------------

    def start_sweep(
        self,
        study: str,
        conditions: Conditions,
        *,
        parent_run_id: str | None,
        settings: dict[str, str],
        undecided: Collection[str] = (),
        found: Callable[[dict[str, str]], None] = _nothing,
        storage: str = STORAGE,
        space: SearchSpace | None = None,
        profile: ImbalanceProfile | None = None,
        before: Sequence[TrialResult] = (),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin (or, with `parent_run_id`, go on with) a sweep; runs left RUNNING by a crash become KILLED.

        What an earlier session could not send is sent first. Runs that are paused stay as they are.

        Args:
            study: its name, which is the experiment's.
            conditions: what its trainings share.
            parent_run_id: the sweep's run of an earlier session.
            settings: parameters of the sweep's run besides the recipe.
            undecided: fields of the recipe that a probe will decide: MLflow's parameters are written once, so that the
                sweep's run gets them from `decide`.
            found: is told ids of runs (by `search/00012` and the like) that were not known when their results were
                stored, as soon as they are.
            storage: where the study is, for the command that goes on with it.
            space: what is searched, which the prepared views show; None = there are none.
            profile: of the data set, for its panel.
            before: results of the search's trials of earlier sessions.
            beat: is called while the store is waited for, before the trainings and after them.

        Raises:
            UsageError: if the store does not take it.
        """
        self._values, self._undecided, self._study = Values(conditions, profile), tuple(undecided), study
        self._space, self._best = space, BestSoFar(before)
        spool = Spool(self._spool_folder, study, self._uri)
        self._courier = Courier(
            self._client,
            spool,
            place=self._uri,
            warn=self._warn,
            found=found,
            say=self._say,
            stopped=self._stopped,
            beat=beat,
        )
        self._courier.flush(PATIENCE, file_attempts=1)
        try:
            self._begin(study, parent_run_id, settings)
        except Exception as error:
            raise UsageError(
                f"--tracking-uri {shown_address(self._uri)} must be an MLflow store that can be written, got: "
                f"{cause(error)}. "
                f"Nothing was trained; mend it, and go on with: {resume_command(study, storage)}"
            ) from error

    def _begin(self, study: str, parent_run_id: str | None, settings: dict[str, str]) -> None:
        client = self._client
        experiment = client.get_experiment_by_name(study)
        self.experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(study, artifact_location=self._artifacts(study))
        )
        client.set_experiment_tag(self.experiment_id, "mlflow.experimentKind", "custom_model_development")
        for tag, view in prepared_views(self._space).items() if self._space else ():
            client.set_experiment_tag(self.experiment_id, tag, view)
        if parent_run_id and self._is_here(parent_run_id):
            self.parent_run_id = parent_run_id
            for run in self._children("RUNNING"):
                client.set_terminated(run.info.run_id, "KILLED")
            for run in reversed([*self._children(PAUSED), *self._children("KILLED")]):
                self._earlier[run.data.tags["sweeper.kind"], run.data.tags["sweeper.trial"]] = run.info.run_id
            client.update_run(parent_run_id, status="RUNNING")
        else:
            tags = {"sweeper.kind": "sweep", **self._values.class_tags(), **self._values.fold_tags()}
            create = self._operation(
                "create", self._key("sweep"), experiment=self.experiment_id, name="sweep", tags=tags
            )
            self.parent_run_id = send(client, create, "")
            recipe = {k: v for k, v in self._values.recipe().items() if k.split(".")[1] not in self._undecided}
            params = {**recipe, "seed": str(self._values.conditions.seed), **settings}
            send(client, self._operation("batch", "sweep", params=params), self.parent_run_id)
            send(client, self._operation("dataset", "sweep", dataset=self._values.dataset("sweep")), self.parent_run_id)
        self._courier.runs["sweep"] = self.parent_run_id

    def decide(self, conditions: Conditions) -> None:
        """Take the recipe that a probe decided on; what the sweep's run lacks of it is written there."""
        self._values = self._values.under(conditions)
        wanted = self._values.recipe()
        try:
            have = self._client.get_run(self.parent_run_id).data.params
            wanted = {key: value for key, value in wanted.items() if key not in have}
        except Exception:  # it is away: what was left out at the start is what it lacks
            wanted = {key: value for key, value in wanted.items() if key.split(".")[1] in self._undecided}
        if wanted:
            self._post("batch", "sweep", params=wanted)

    def describe(self, note: str) -> None:
        """Make `note`, in markdown, the description of the sweep's run."""
        self._post("batch", "sweep", tags={NOTE: _cut(note)})

    def catch_up(self) -> None:
        """Send what waits, for a little: called before the report, which links to the runs."""
        self._courier.flush(PATIENCE, file_attempts=0)

    def end_sweep(
        self,
        status: str,
        *,
        note: str = "",
        folder: Path | None = None,
        tags: dict[str, str] | None = None,
        values: dict[str, float] | None = None,
        finalists: Mapping[str, Path] | None = None,
    ) -> None:
        """Close the parent run with MLflow status `status`, and as killed whatever still runs below it.

        The report's folder goes with it as artifacts, `note` becomes its description and the experiment's, `values`
        its metrics; `finalists` are folders of files for runs of trainings, by their ids. Paused runs stay paused when
        the sweep is to be resumed (`status` KILLED). A store that is away is waited for a little, one that takes
        something now and then for longer; what it was not told by then is kept, and it is said how to send it.
        """
        over = status != "KILLED"
        for training, key in self._keys.items():
            if over or training not in self._paused:
                self._post("status", key, status="KILLED")
        self._keys.clear()
        if over:
            self._close_paused()
        all_tags = dict(tags or {})
        if note:
            all_tags[NOTE] = _cut(note)
            self._post(
                "experiment",
                "sweep",
                experiment=self.experiment_id,
                tags={NOTE: all_tags[NOTE][:EXPERIMENT_NOTE_LIMIT]},
            )
        if all_tags or values:
            self._post("batch", "sweep", metrics=values or {}, tags=all_tags)
        self._post("status", "sweep", status=status)
        if folder is not None:  # last: files are what a server most likely cannot take, and nothing waits behind them
            self._post("artifacts", "sweep", folder=str(folder.resolve()))
        for run_id, own in (finalists or {}).items():
            self._post("artifacts", f"files/{run_id}", run_id=run_id, folder=str(own.resolve()))
        if left := self._courier.flush(END_PATIENCE if over else 0.0, file_attempts=FILE_ATTEMPTS if over else 0):
            kept = f"{count(left, 'operation is', 'operations are')} kept"
            self._warn(
                f"MLflow at {shown_address(self._uri)} was not told everything: {kept}. When it answers: `sweeper "
                f"report {shlex.quote(self._study)}` (or a resume) with the same --tracking-uri sends what is left"
            )

    def hand_over(self) -> None:
        """Another process runs the study by now, and the sweep's run is its: only our own trainings are closed."""
        for training, key in self._keys.items():
            if training not in self._paused:
                self._post("status", key, status="KILLED")
        self._keys.clear()
        self._courier.flush(0.0, file_attempts=0)

    # --- The trainings --------------------------------------------------------------------------------------

    def notify(self, event: SweepEvent) -> None:
        """Open, write, pause, go on with or close the training's run."""
        match event:
            case Started(spec):
                self._start(spec)
            case Evaluated(spec, evaluation):
                self._evaluated(spec, evaluation)
            case Paused(spec):
                self._pause(spec)
            case Resumed(spec, result):
                self._resume(spec, result)
            case Dropped(spec, reason):
                self._drop(spec, reason)

    def _start(self, spec: TrialSpec) -> None:
        """Open the training's run."""
        key = self._keys[spec.purpose, spec.number] = self._key(f"{spec.purpose}/{spec.number:05d}")
        tags = {**self._values.tags(spec), "mlflow.parentRunId": self.parent_run_id}
        self._post("create", key, experiment=self.experiment_id, name=self._values.name(spec), tags=tags)
        self._post("batch", key, params=self._values.params(spec))
        self._post("dataset", key, dataset=self._values.dataset(USED_FOR[spec.purpose]))

    def _evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """Log one evaluation, as one batch."""
        key = self._keys[spec.purpose, spec.number]
        if evaluation.step in self._steps[key]:  # trained once more after a crash, in the run that has it
            return
        self._steps[key].add(evaluation.step)
        self._post("batch", key, metrics=self._values.of_evaluation(evaluation), step=evaluation.step)

    def _pause(self, spec: TrialSpec) -> None:
        """The training waits and may go on, in this session or another: its run stays open."""
        self._paused.add((spec.purpose, spec.number))
        key = self._keys[spec.purpose, spec.number]
        self._post("batch", key, tags={"sweeper.state": "waiting"})
        self._post("status", key, status=PAUSED)

    def _resume(self, spec: TrialSpec, result: TrialResult) -> None:
        """The training goes on, and so does its run, also one of an earlier session, be it open or closed.

        Args:
            spec: the training.
            result: what it gave so far; points that the run lacks are written there.
        """
        training = spec.purpose, spec.number
        self._paused.discard(training)
        if training not in self._keys:
            self._take_up(spec, result)
        self._post("status", self._keys[training], status="RUNNING")
        self._post("batch", self._keys[training], tags={"sweeper.state": "running"})

    def record(self, result: TrialResult) -> TrialResult:
        """Close the run; the result with the run's id in it, where that is known."""
        spec = result.spec
        training = spec.purpose, spec.number
        if training not in self._keys:
            if not result.evaluations:
                return result
            self._take_up(spec, result)  # it waited since an earlier session
        self._paused.discard(training)
        key = self._keys.pop(training)
        self._complete(key, result)
        self._steps.pop(key, None)
        values, tags = self._values.of_result(result)
        step = result.evaluations[-1].step if result.evaluations else 0
        self._post("batch", key, metrics=values, tags=tags, step=step)
        self._post("status", key, status=STATUS[result.state])
        if (best := self._best.after(result)) is not None:
            self._post("batch", "sweep", metrics=best, step=self._best.ended)
        run_id = self._courier.runs.get(key)
        return result if run_id is None else result.model_copy(update={"run_id": run_id})

    def _drop(self, spec: TrialSpec, reason: str) -> None:
        """Close the run of a training that was cut off."""
        self._paused.discard((spec.purpose, spec.number))
        key = self._keys.pop((spec.purpose, spec.number), None)
        if key is not None:
            self._steps.pop(key, None)
            self._post("batch", key, tags={"sweeper.state": "abandoned", "sweeper.reason": reason})
            self._post("status", key, status="KILLED")

    def run_id(self, spec: TrialSpec) -> str | None:
        """The MLflow run of a training that is not over; None where there is none, or the store is away."""
        return self._courier.runs.get(self._keys.get((spec.purpose, spec.number), ""))

    # --- Inside ---------------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{name}/{uuid.uuid4().hex[:8]}"

    def _operation(self, kind: str, key: str, **fields: object) -> Operation:
        return Operation.model_validate({"kind": kind, "key": key, "at": int(self._clock() * 1000), **fields})

    def _post(self, kind: str, key: str, **fields: object) -> None:
        if not self._lost():
            self._courier.post(self._operation(kind, key, **fields))

    def _lost(self) -> bool:
        """Whether the store's file was deleted or replaced: what it is told is gone when this process ends."""
        if self._file is None or (fault := self._file.fault()) is None:
            return self._told_lost
        if not self._told_lost:
            self._told_lost = True
            self._warn(
                f"{self._file.path}, MLflow's store, {fault}: it is told nothing more. The sweep goes on, its storage "
                f"and the report have everything. Afterwards, to write its runs again: {rebuild_command(self._study)}"
            )
        return True

    def _is_here(self, run_id: str) -> bool:
        """Whether this store has the run (a resume may name another store), and nobody deleted it."""
        try:
            info = self._client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            return False
        return bool(info.experiment_id == self.experiment_id and info.lifecycle_stage == "active")

    def _children(self, status: str | None = None) -> list[Run]:
        """This sweep's own trainings (with that status), the newest first: others may share the experiment's name."""
        mine = f"tags.mlflow.parentRunId = '{self.parent_run_id}'"
        mine += f" and attributes.status = '{status}'" if status else ""
        return list(self._client.search_runs([self.experiment_id], mine, max_results=50_000))

    def _take_up(self, spec: TrialSpec, result: TrialResult) -> None:
        """Go on with the newest run of a training of an earlier session; where there is none, with a new one."""
        kind = self._values.tags(spec)["sweeper.kind"]
        run_id = self._earlier.pop((kind, str(spec.number)), None)
        if run_id is None:
            self._start(spec)
        else:
            key = self._keys[spec.purpose, spec.number] = self._key(f"{spec.purpose}/{spec.number:05d}")
            self._courier.runs[key] = run_id
            try:
                self._steps[key] = {point.step for point in self._client.get_metric_history(run_id, "lr")}
            except Exception:  # it is away: what was given before the pause was sent, or is on its way
                self._steps[key] = {evaluation.step for evaluation in result.evaluations}
        self._complete(self._keys[spec.purpose, spec.number], result)

    def _complete(self, key: str, result: TrialResult) -> None:
        """Write the evaluations that a crash kept from the run, between their being stored and being sent."""
        for evaluation in result.evaluations:
            if evaluation.step not in self._steps[key]:
                self._steps[key].add(evaluation.step)
                self._post("batch", key, metrics=self._values.of_evaluation(evaluation), step=evaluation.step)

    def _close_paused(self) -> None:
        """What an earlier session paused and nobody went on with."""
        if self._courier.behind:
            return
        try:
            for run in self._children(PAUSED):
                self._client.set_terminated(run.info.run_id, "KILLED")
        except Exception as error:
            self._warn(f"MLflow at {shown_address(self._uri)}: paused runs could not be closed ({cause(error)})")

    def _artifacts(self, study: str) -> str | None:
        """Beside a SQLite store (its own default when that is in the working folder); a server decides for itself."""
        path = sqlite_path(self._uri)
        return None if path is None else artifacts_of(path, study)
