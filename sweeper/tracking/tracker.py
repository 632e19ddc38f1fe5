"""A study in MLflow: what its storage holds, and then what happens to its trainings, changes the runs that are wanted.

Experiment = study. Tags: `sweeper.kind` (sweep, trial, confirm, recheck, probe), `sweeper.family`, `sweeper.trial`,
`sweeper.state`, `sweeper.collapse`, and `mlflow.parentRunId`, which makes the tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.causes import cause
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.events import Dropped, Evaluated, Paused, Resumed, Started, SweepEvent
from sweeper.core.paths import STORAGE
from sweeper.core.records import Conditions, TrialResult, TrialSpec
from sweeper.core.redact import shown_address
from sweeper.core.text import mlflow_command, resume_command
from sweeper.tracking import desired_runs as runs
from sweeper.tracking.background import LAST_SECONDS, Background
from sweeper.tracking.desired_runs import DesiredRun, Point, name_of
from sweeper.tracking.mlflow_connection import connect
from sweeper.tracking.prepared_views import prepared_views
from sweeper.tracking.projection import SWEEP, Projection
from sweeper.tracking.stored_trainings import trainings_of
from sweeper.tracking.values import BEST, EXPERIMENT_NOTE_LIMIT, NOTE, NOTE_LIMIT, BestSoFar, Values

if TYPE_CHECKING:
    import optuna

PATIENCE = 15.0
"""Seconds that the report waits for a server that takes nothing; it links to the runs."""
END_PATIENCE = 30.0
"""The same at the end: long enough for a server that is being started again."""


class Summary(NamedTuple):
    """What the sweep's own run says of the outcome."""

    note: str
    """Its description, and the experiment's, in markdown."""
    tags: Mapping[str, str]
    values: Mapping[str, float]
    """Metrics."""
    folder: Path
    """The report's files."""
    finalists: Mapping[str, Path]
    """Folders of files for runs of confirmations, by their ids: of each finalist the run of the first seed."""


class Tracker:
    """Keeps one study in MLflow as it is, by a thread beside its trainings."""

    def __init__(
        self,
        uri: str,
        *,
        warn: Callable[[str], None],
        say: Callable[[str], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect, creating and migrating a SQLite store.

        Args:
            uri: MLflow's tracking address.
            warn: is told when the store goes away and comes back, and at the end what it lacks.
            say: is told how far it is where the end takes long.
            stopped: whether somebody asked not to wait any longer.
            clock: seconds since 1970, for the runs' times.

        Raises:
            UsageError: if the store cannot be reached.
        """
        self._uri, self._warn, self._say, self._stopped, self._clock = uri, warn, say, stopped, clock
        self.projection = Projection(connect(uri), uri)
        self._background: Background | None = None

    # --- The sweep ------------------------------------------------------------------------------------------

    def begin(
        self,
        study: optuna.Study,
        plan: studies.Plan,
        *,
        storage: str = STORAGE,
        status: str = "RUNNING",
        undecided: Collection[str] = (),
    ) -> None:
        """Find or make the sweep's run, note it with the study, and begin to write what MLflow lacks of the study.

        Runs of trainings that a crash left RUNNING become KILLED.

        Args:
            study: it.
            plan: its plan.
            storage: its address, for the commands that go on with it.
            status: of the sweep's run.
            undecided: fields of the recipe that a probe will decide: MLflow's parameters are written once, so that the
                sweep's run gets them from `decide`.

        Raises:
            SweeperError: if the experiment was deleted.
            UsageError: if the store does not take it.
        """
        created = datetime.fromisoformat(plan.created).timestamp()
        trainings = trainings_of(study, created)
        results = [training.result for training in trainings if not training.paused]
        self._study, self._values = study, Values(plan.conditions, plan.profile)
        self._unnoted = {name_of(result.spec): result.run_id for result in results}
        self._best = BestSoFar()
        recipe = {key: text for key, text in self._values.recipe().items() if key.split(".")[1] not in undecided}
        asked = {"trials": str(studies.unpack_value(study.user_attrs, "trials", 0)), "space": plan.space.name}
        sweep = DesiredRun(
            name=SWEEP,
            tags={"sweeper.kind": SWEEP, **self._values.class_tags(), **self._values.fold_tags()},
            params={**recipe, "seed": str(plan.conditions.seed), **asked},
            dataset=self._values.dataset(SWEEP),
            start=int(created * 1000),
            marker=BEST,
            status=status,
            end=int(max([created, *(training.ended for training in trainings)]) * 1000),
        )
        try:
            self.projection.begin(study.study_name, sweep, mark=plan.created, parents=studies.parents(study))
        except SweeperError:
            raise
        except Exception as error:
            raise UsageError(
                f"--tracking-uri {shown_address(self._uri)} must be an MLflow store that can be written, got: "
                f"{cause(error)}. "
                f"Nothing was trained; mend it, and go on with: {resume_command(study.study_name, storage)}"
            ) from error
        parent = self.projection.parent_run_id
        studies.note_parent(study, self.projection.experiment_id, parent)
        views = {"mlflow.experimentKind": "custom_model_development", **prepared_views(plan.space)}
        self.projection.experiment_tags = views
        for training in trainings:
            self.projection.put(name_of(training.result.spec), runs.run_of(training, self._values, parent))
            if not training.paused:
                self._add_best(training.result, training.ended)
        self._background = Background(
            self.projection,
            self._uri,
            warn=self._warn,
            say=self._say,
            stopped=self._stopped,
            command=mlflow_command(study.study_name, storage),
        )

    def decide(self, conditions: Conditions) -> None:
        """Take the recipe that a probe decided on; what the sweep's run lacks of it is written there."""
        self._values = self._values.under(conditions)
        sweep = self._sweep()
        self._put(SWEEP, sweep._replace(params=self._values.recipe() | sweep.params))

    def describe(self, note: str) -> None:
        """Make `note`, in markdown, the description of the sweep's run."""
        sweep = self._sweep()
        self._put(SWEEP, sweep._replace(tags=sweep.tags | {NOTE: _cut(note)}))

    def catch_up(self, beat: Callable[[], None] = lambda: None) -> str | None:
        """Wait a little until everything is written; `beat` is called meanwhile, as a sign of life.

        Returns:
            What the store does not have then, with the command that writes it; None where it has everything.
        """
        lacks = self._wait(PATIENCE, beat)
        self._note()
        return lacks

    def conclude(self, status: str, summary: Summary | None = None) -> None:
        """The sweep ends with MLflow's status `status`, and whatever still runs below it is killed.

        Paused runs stay paused when the sweep is to be resumed (`status` KILLED).
        """
        now, over = self._clock(), status != "KILLED"
        self.projection.kill(("RUNNING", runs.PAUSED) if over else ("RUNNING",), int(now * 1000))
        sweep = self._sweep()
        if sweep.status != status:
            sweep = sweep._replace(status=status, end=int(now * 1000))
        if summary is not None:
            note = _cut(summary.note)
            last = Point(dict(summary.values), 0, int(now * 1000))
            sweep = sweep._replace(tags={**sweep.tags, **summary.tags, NOTE: note}, last=last)
            self.projection.experiment_tags = {**self.projection.experiment_tags, NOTE: note[:EXPERIMENT_NOTE_LIMIT]}
            self.projection.add_files(self.projection.parent_run_id, summary.folder.resolve())
            for run_id, folder in summary.finalists.items():
                self.projection.add_files(run_id, folder.resolve())
        self._put(SWEEP, sweep)

    def end_sweep(
        self, status: str, summary: Summary | None = None, *, beat: Callable[[], None] = lambda: None
    ) -> None:
        """`conclude`, wait a little for a store that is away, and say what it lacks then, and what writes that."""
        self.conclude(status, summary)
        lacks = self._wait(LAST_SECONDS if status == "KILLED" else END_PATIENCE, beat)
        self.close()
        if status != "FAILED":  # else the study's storage may be what failed
            self._note()
        if lacks is not None:
            self._warn(lacks)

    def close(self) -> None:
        """Write nothing more: what is left follows from the study, which another process may be running by now."""
        self.projection.closed = True
        if self._background is not None:
            self._background.wake()

    # --- The trainings --------------------------------------------------------------------------------------

    def notify(self, event: SweepEvent) -> None:
        """Have the training's run as it is from now on."""
        match event:
            case Started(spec):
                self._put(name_of(spec), self._begun(spec))
            case Evaluated(spec, evaluation):
                self._put(name_of(spec), runs.evaluated(self._run(spec), [evaluation], self._values))
            case Paused(spec):
                self._put(name_of(spec), runs.waiting(self._run(spec)))
            case Resumed(spec, result):
                run = runs.evaluated(self._run(spec), result.evaluations, self._values)
                self._put(name_of(spec), runs.running(run))
            case Dropped(spec, reason):
                self._put(name_of(spec), runs.cut_off(self._run(spec), reason, self._clock()))
        self._note()

    def record(self, result: TrialResult) -> TrialResult:
        """Have the training's run end; the result with the run's id in it, where that is known."""
        name = name_of(result.spec)
        self._add_best(result, self._clock())
        self._put(name, runs.ended(self._run(result.spec), result, self._values))
        run_id = self.projection.run_ids.get(name)
        if run_id is None:
            self._unnoted[name] = None
            return result
        return result.model_copy(update={"run_id": run_id})

    # --- Inside ---------------------------------------------------------------------------------------------

    def _wait(self, patience: float, beat: Callable[[], None]) -> str | None:
        if self._background is None:
            return None
        self._background.wait(patience, beat)
        return self._background.lacks()

    def _begun(self, spec: TrialSpec) -> DesiredRun:
        return runs.begun(spec, self._clock(), self._values, self.projection.parent_run_id)

    def _run(self, spec: TrialSpec) -> DesiredRun:
        """The run as it was wanted before; that of a training that begins, where none was."""
        return self.projection.wanted(name_of(spec)) or self._begun(spec)

    def _sweep(self) -> DesiredRun:
        run = self.projection.wanted(SWEEP)
        assert run is not None
        return run

    def _put(self, name: str, run: DesiredRun) -> None:
        self.projection.put(name, run)
        if self._background is not None:
            self._background.wake()
            self._background.tell()

    def _add_best(self, result: TrialResult, at: float) -> None:
        """The search's course, as a metric of the sweep's run."""
        if (best := self._best.after(result)) is not None:
            sweep, point = self._sweep(), Point(best, self._best.ended, int(at * 1000))
            self.projection.put(SWEEP, sweep._replace(points=(*sweep.points, point)))

    def _note(self) -> None:
        """Tell the study the runs of its results that it does not know yet."""
        ids = self.projection.run_ids
        here = {name: ids[name] for name in self._unnoted if name in ids}
        studies.note_runs(self._study, {name: run for name, run in here.items() if self._unnoted[name] != run})
        self._unnoted = {name: run for name, run in self._unnoted.items() if name not in here}


def _cut(note: str) -> str:
    return note if len(note) <= NOTE_LIMIT else note[: NOTE_LIMIT - 1] + "…"
