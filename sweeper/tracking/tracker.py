"""Track trainings in MLflow: a thread writes the results of a study or comparison, and then each new result.

The training loop waits for MLflow only at its end. While MLflow is away, unwritten runs stay in memory; after a kill
they are made from the study.

Experiment = study. Tags: `sweeper.kind` (sweep, trial, probe, rate, first, replicate, confirm, final),
`sweeper.family`, `sweeper.trial`, `sweeper.state`, `sweeper.collapse`, and `mlflow.parentRunId`, which makes the tree.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.errors import get_cause
from sweeper.core.events import ResultStored, SweepEvent, TrainingContinued, TrainingDropped, TrainingPaused
from sweeper.core.paths import STORAGE, format_view_links
from sweeper.core.records import Conditions
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_count, format_resume_command, format_sync_command
from sweeper.system.locks import get_sqlite_path
from sweeper.system.whole_files import WatchedFile
from sweeper.tracking.mirror import SWEEP, MlflowMirror
from sweeper.tracking.mlflow_connection import connect_to_mlflow, explain_store_errors
from sweeper.tracking.prepared_views import make_prepared_views
from sweeper.tracking.values import (
    EXPERIMENT_NOTE_LIMIT,
    NOTE,
    NOTE_LIMIT,
    DesiredRun,
    MetricPoint,
    RunValues,
    TrackedTraining,
    list_tracked_trainings,
    run_of,
)

if TYPE_CHECKING:
    import optuna

PASS_EVERY = 1.0
"""Seconds between two passes while trainings run."""
PAUSE_AFTER_FAILURE = 10.0
"""Seconds after a failed pass, unless a caller waits."""
LIVE_SECONDS = 10.0
"""Seconds of training between two writes of a running training's run."""
PATIENCE = 15.0
"""Seconds without progress until the report, which links to the runs, stops waiting for the server."""
END_PATIENCE = 30.0
"""Seconds without progress at the end, enough for a restart of the server."""
MOST_SECONDS = 300.0
"""Longest wait for a store that makes slow progress."""
COMPARED = "sweeper.compared"
"""Tag of a training on the test images: yes, or no where the answer does not count it, such as a surplus seed."""
ON_TEST = ("confirm/", "first/", "replicate/")
"""Beginnings of the names of these trainings."""
LAST_SECONDS = 2.0
"""Longest wait in seconds after a request to stop, and time after which a longer wait is reported."""


class SweepSummary(NamedTuple):
    """Summary of the outcome for the sweep's run."""

    note: str
    """Description of the run, in markdown."""
    tags: Mapping[str, str]
    values: Mapping[str, float]
    """Metrics."""
    folder: Path
    """Folder of the report's files."""
    head: str = ""
    """Description of the experiment: plain text, as MLflow's list of experiments shows it."""
    compared: Collection[str] = ()
    """Ids of the runs that the answer counts; () = not known."""


class MlflowWriter:
    """Writes the runs of a sweep to MLflow in a thread. Only the thread that trains reports to the user."""

    def __init__(
        self,
        uri: str,
        *,
        warn: Callable[[str], None],
        log: Callable[[str], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connect, creating and migrating a SQLite store.

        Args:
            uri: MLflow's tracking address.
            warn: receives when the store goes away and comes back, and at the end what the store lacks.
            log: receives what the end waits for.
            stopped: returns whether the user wants to stop waiting.

        Raises:
            UsageError: if the store cannot be reached.
        """
        self._warn, self._log, self._stopped = warn, log, stopped
        self._uri, self._place, self.mirror = uri, hide_address_secrets(uri), MlflowMirror(connect_to_mlflow(uri), uri)
        path = get_sqlite_path(uri)
        self._file = None if path is None else WatchedFile(path)
        self._gone: str | None = None
        """Sentence on the loss of the store's file; None = not lost."""
        self._lock = threading.Lock()
        self._lacking: dict[tuple[str, str], Callable[[], None]] = {}
        """Pending writes, by kind (run, tag, file) and name."""
        self._written = 0
        self._warnings = deque[str]()
        self.failure: Exception | None = None
        """Error that ended the last pass; None = none."""
        self._closed = False
        self._views_at_end: Mapping[str, str] = {}
        """Prepared views of runs that are marked as compared."""
        self._woken, self._awaited = threading.Event(), threading.Event()

    # --- The sweep --------------------------------------------------------------------------------------------

    def _open_sweep(self, name: str, run: DesiredRun, mark: str, *, resume: str, command: str) -> None:
        """Find or create the sweep's run in an experiment of this name.

        `resume` is the command that continues it, and `command` the one that writes what MLflow lacks.

        Raises:
            SweeperError: if the experiment was deleted.
            UsageError: if the store cannot take it.
        """
        self._sweep, self._command = run, command
        self._advice = f"Nothing was trained. Fix this, then resume with: {resume}"
        with explain_store_errors(self._uri, self._advice):
            self.mirror.begin_sweep(name, run, mark)

    def _start_writing(self, tags: Mapping[str, str]) -> None:
        """Begin to write what is pending, and these tags of the experiment."""
        self._put_tags(tags)
        threading.Thread(target=self._run_writer, name="MLflow", daemon=True).start()

    def _put_tags(self, tags: Mapping[str, str]) -> None:
        for key, text in tags.items():
            self._put_task("tag", key, partial(self.mirror.set_tag, key, text))

    def _describe(self, note: str, head: str) -> dict[str, str]:
        """Describe the experiment by `head`, and return the run's tag: the note, and links to the prepared views."""
        self._put_tags({NOTE: head.replace("`", "")[:EXPERIMENT_NOTE_LIMIT]})
        links = format_view_links(self.mirror.experiment_id)
        room = NOTE_LIMIT - len(links) - 2
        return {NOTE: f"{note if len(note) <= room else f'{note[: room - 1]}…'}\n\n{links}"}

    def conclude_sweep(self, status: str, summary: SweepSummary | None = None) -> None:
        """End the sweep with MLflow's status `status`."""
        now = int(time.time() * 1000)
        if summary is not None:
            described = self._describe(summary.note, summary.head)
            self._update_sweep(tags=self._sweep.tags | dict(summary.tags) | described)
            self._update_sweep(last=MetricPoint(dict(summary.values), 0, now))
            self._mark_compared(summary.compared)
            folder = summary.folder.resolve()
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                self._put_task("file", str(path), partial(self.mirror.send_file, folder, path))
        if self._sweep.status != status:
            self._update_sweep(status=status, end=now)

    def _mark_compared(self, compared: Collection[str]) -> None:
        """Tag each training on the test images by whether the answer counts it, and show only those as finalists."""
        if not compared:
            return
        self._put_tags(self._views_at_end)
        for name, run_id in {**self.mirror.run_ids}.items():
            if name.startswith(ON_TEST):
                said = "yes" if run_id in compared else "no"
                self._put_task("tag", name, partial(self.mirror.mark_run, run_id, COMPARED, said))

    def end_sweep(
        self, status: str, summary: SweepSummary | None = None, *, report_alive: Callable[[], None] = lambda: None
    ) -> None:
        """End the sweep, wait briefly for a store that is away, and warn of what it still lacks."""
        self.conclude_sweep(status, summary)
        self._wait_until_written(LAST_SECONDS if status == "KILLED" else END_PATIENCE, report_alive)
        self.close()
        if (lacks := self._explain_missing()) is not None:
            self._warn(lacks)

    def close(self) -> None:
        """Stop writing; another process may already be running the study, and can write the rest from it."""
        self._closed = True
        self._woken.set()

    # --- Pending writes ---------------------------------------------------------------------------------------

    @property
    def pending_text(self) -> str:
        """Text on pending writes: `3 runs and 1 file`; "" if there are none."""
        with self._lock:
            amounts = Counter(what for what, _ in self._lacking)
        return " and ".join(format_count(amount, what) for what, amount in amounts.items())

    def _put_task(self, what: str, name: str, write: Callable[[], None]) -> None:
        with self._lock:
            self._lacking[what, name] = write
        self._woken.set()

    def _update_sweep(self, **changes: object) -> None:
        self._sweep = self._sweep._replace(**changes)  # type: ignore[arg-type]
        self._put_task("run", SWEEP, partial(self.mirror.write_run, SWEEP, self._sweep))

    # --- Waiting ----------------------------------------------------------------------------------------------

    def _log_warnings(self) -> None:
        while self._warnings:
            self._warn(self._warnings.popleft())

    def _wait_until_written(self, timeout: float, report_alive: Callable[[], None]) -> None:
        """Wait until everything is written, or the store has accepted nothing for `timeout` seconds."""
        self._awaited.set()
        began = progress = time.monotonic()
        before, warned = self._written, False
        while self._gone is None and (left := self.pending_text):
            self._woken.set()
            time.sleep(0.05)
            report_alive()
            self._log_warnings()
            now = time.monotonic()
            if self._written != before:
                before, progress = self._written, now
            if now >= (began + LAST_SECONDS if self._stopped() else min(progress + timeout, began + MOST_SECONDS)):
                break
            if now - began > LAST_SECONDS and not warned:
                warned = True
                self._log(f"waiting for MLflow at {self._place}: {left} to be written")
        self._log_warnings()
        self._awaited.clear()

    def _explain_missing(self) -> str | None:
        """Return what the store lacks, and the command that writes it; None if it is complete."""
        if self._is_gone():
            return f"{self._gone}: MLflow lacks what was in it. No training is lost; this writes it: {self._command}"
        if not (left := self.pending_text):
            return None
        why = "" if self.failure is None else f" ({get_cause(self.failure)})"
        if {what for what, _ in self._lacking} == {"file"}:
            return (
                f"MLflow at {self._place} has every run, and lacks {left}{why}, which are in the report's folder. This "
                "machine must be able to write where the store keeps files; or start the server with "
                "--artifacts-destination, by which it takes those of new studies itself. Then this writes what it "
                f"lacks: {self._command}"
            )
        return (
            f"MLflow at {self._place} did not take everything: {left} left{why}. No training is lost; when "
            f"MLflow answers, this writes what it lacks: {self._command}"
        )

    # --- In the thread ----------------------------------------------------------------------------------------

    def _run_writer(self) -> None:
        while not self._closed:
            self._woken.wait(PASS_EVERY)
            self._woken.clear()
            if self._is_gone():
                self._warnings.append(f"{self._gone}. Training continues; at its end, write MLflow: {self._command}")
                return
            before, self.failure = self.failure, self._write_pass()
            if self.failure is not None and before is None:
                self._warnings.append(
                    f"MLflow at {self._place} fails: {get_cause(self.failure)}. Training continues; what MLflow lacks "
                    "is written when it takes it"
                )
            elif self.failure is None and before is not None:
                self._warnings.append(f"MLflow at {self._place} answers again, and has everything")
            if self.failure is None:
                self._awaited.wait(PASS_EVERY)
            else:
                self._awaited.wait(PAUSE_AFTER_FAILURE)
                time.sleep(PASS_EVERY)
                self._woken.set()

    def _is_gone(self) -> bool:
        """Return whether the store's file is no longer the opened one; SQLite would create an empty one."""
        if self._gone is not None or self._file is None:
            return self._gone is not None
        fault = self._file.find_fault()
        if fault is not None:
            self._gone = f"{self._file.path} {fault} while it was written to"
        return self._gone is not None

    def _write_pass(self) -> Exception | None:
        """Write all pending runs and tags, then files, which a server may refuse; return the error, if any."""
        while True:
            with self._lock:
                keys = sorted(self._lacking, key=lambda key: key[0] == "file")
                if self._closed or not keys:
                    return None
                key, write = keys[0], self._lacking[keys[0]]
            try:
                write()
            except Exception as error:
                with self._lock:  # try all others before it
                    self._lacking[key] = self._lacking.pop(key)
                return error
            self._written += 1
            with self._lock:
                if self._lacking[key] is write:
                    del self._lacking[key]


class MlflowTracker(MlflowWriter):
    """Writes the missing parts of one study to MLflow."""

    def begin_sweep(
        self,
        study: optuna.Study,
        plan: studies.StudyPlan,
        *,
        storage: str = STORAGE,
        places: str = "",
        status: str = "RUNNING",
    ) -> None:
        """Find or create the sweep's run, store its id with the study, and begin to write the study's missing parts.

        `update_plan` writes the recipe later, because MLflow's parameters can be written only once.

        Args:
            study: the study.
            plan: the study's plan.
            storage: the study's address, for suggested commands.
            places: other options of the command that resumes the study.
            status: status of the sweep's run.

        Raises:
            SweeperError: if the experiment was deleted.
            UsageError: if the store cannot take the study.
        """
        created = datetime.fromisoformat(plan.created).timestamp()
        trainings = list_tracked_trainings(study, created)
        self._study, self._values = study, RunValues(plan.conditions)
        self._shown: dict[str, float] = {}
        requested = {"trials": str(studies.unpack_value(study.user_attrs, "trials", 0)), "space": plan.space.name}
        sweep = DesiredRun(
            name=SWEEP,
            tags={"sweeper.kind": SWEEP, **self._values.make_class_tags(), **self._values.make_fold_tags()},
            params={"seed": str(plan.conditions.seed), **requested},
            dataset=self._values.make_dataset_input(SWEEP),
            start=int(created * 1000),
            status=status,
            end=int(max([created, *(training.ended for training in trainings)]) * 1000),
        )
        resume = format_resume_command(study.study_name, storage, places)
        command = format_sync_command(study.study_name, storage, self._uri)
        self._open_sweep(study.study_name, sweep, plan.created, resume=resume, command=command)
        with explain_store_errors(self._uri, self._advice):
            dropped = {*studies.unpack_value(study.user_attrs, studies.DROPPED, []), *self.mirror.list_begun_runs()}
            self.mirror.delete_runs(dropped.difference(training.result.spec.name for training in trainings))
        is_other = studies.note_parent(study, self.mirror.experiment_id, self.mirror.parent_run_id)
        if is_other and status == "RUNNING":  # callers of `sweeper studies sync` chose the store
            self._warn(
                f"MLflow at {self._place} is another store than the study's last, or a new one: it gets all runs of "
                "the study, and the other one no more of them; --tracking-uri names the store"
            )
        free = {name for family in plan.space.families for name in family.coordinates}
        for training in trainings:
            self._put_training(training)
        kind, metric = {"mlflow.experimentKind": "custom_model_development"}, plan.conditions.recipe.metric
        self._views_at_end = make_prepared_views(free, metric, compared=f"tags.`{COMPARED}` = 'yes'")
        self._start_writing(kind | make_prepared_views(free, metric))

    def update_plan(self, conditions: Conditions) -> None:
        """Use a changed recipe from now on, and write it to the sweep's run."""
        self._values = RunValues(conditions)
        self._update_sweep(params=self._values.make_recipe_params() | self._sweep.params)

    def set_description(self, note: str, head: str = "") -> None:
        """Set the description of the sweep's run to `note`, in markdown, and the experiment's to `head`, plain."""
        self._update_sweep(tags=self._sweep.tags | self._describe(note, head))
        self._note_runs()
        self._log_warnings()

    def notify(self, event: SweepEvent) -> None:
        """Write a training with a result, or with results so far if it waits at a rung or has been running for long."""
        now = time.time()
        match event:
            case TrainingContinued(spec, result) if result.seconds >= self._shown.get(spec.name, 0.0) + LIVE_SECONDS:
                self._shown[spec.name] = result.seconds
                self._put_training(TrackedTraining(result, now - result.seconds, running=True))
            case TrainingDropped(spec) if self._shown.pop(spec.name, None) is not None:
                self._put_task("run", spec.name, partial(self.mirror.delete_runs, [spec.name]))
            case TrainingPaused(_, result):
                self._put_training(TrackedTraining(result, now - result.seconds, paused=True))
            case ResultStored(result):
                self._put_training(TrackedTraining(result, now - result.seconds))
        self._log_warnings()

    def wait_until_written(self, report_alive: Callable[[], None] = lambda: None) -> str | None:
        """Wait briefly until everything is written; `report_alive` is called meanwhile, as a heartbeat.

        Returns:
            What the store still lacks, with the command that writes it; None if it is complete.
        """
        self._wait_until_written(PATIENCE, report_alive)
        self._note_runs()
        return self._explain_missing()

    def end_sweep(
        self, status: str, summary: SweepSummary | None = None, *, report_alive: Callable[[], None] = lambda: None
    ) -> None:
        """End the sweep, as for any; then store the ids of the trainings' runs with the study."""
        super().end_sweep(status, summary, report_alive=report_alive)
        if status != "FAILED":  # else the study's storage may have failed
            self._note_runs()

    def _put_training(self, training: TrackedTraining) -> None:
        name, run = training.result.spec.name, run_of(training, self._values, self.mirror.parent_run_id)
        self._put_task("run", name, partial(self.mirror.write_run, name, run))

    def _note_runs(self) -> None:
        """Store the ids of the trainings' runs with the study."""
        studies.note_runs(self._study, self.mirror.run_ids)
