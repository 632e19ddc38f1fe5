"""The tree of runs that a study is in MLflow: what it is to be, what it is, and passes that write the difference.

A run is found by its sweep's run and the tags `sweeper.kind` and `sweeper.trial`; the sweep's run by its id, or by the
study's mark. So a run whose creation was never answered is found again, and no pass makes a second one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.redact import shown_address
from sweeper.core.text import count
from sweeper.system.locks import sqlite_path
from sweeper.system.same_file import SameFile
from sweeper.tracking.desired_runs import OPEN, DesiredRun
from sweeper.tracking.mlflow_connection import artifacts_of, files_elsewhere
from sweeper.tracking.run_writes import ActualRun, create_run, is_refused, send_file, write_run

SWEEP = "sweep"
"""Name of the sweep's run here; those of trainings are `search/00012` and the like."""
MARK = "sweeper.key"
"""Tag of the sweep's run that tells its study from others of the name."""
IDENTITY = ("sweeper.kind", "sweeper.trial")
"""Tags by which a training's run is found below the sweep's."""
PURPOSE = {"trial": "search"}
"""Of a training, by the tag `sweeper.kind`, where these differ."""
MOST_RUNS = 50_000
"""MLflow tells so many at a time."""


class LostStoreError(SweeperError):
    """The store's file was deleted or replaced: what is written there is gone when this process ends."""


class Projection:
    """One study in one MLflow store. `put` may be called while another thread is in `sync`."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        """`client` is of the store at the address `uri`."""
        self.client, self._uri = client, uri
        self._path = sqlite_path(uri)
        self._file = None if self._path is None else SameFile(self._path)
        self.experiment_id = self.parent_run_id = ""
        self.experiment_tags: dict[str, str] = {}
        """That the experiment is to have; set anew, and not changed, where it is to have others."""
        self.run_ids: dict[str, str] = {}
        """Of the runs that are known to be there, by name."""
        self.made, self.completed = set[str](), set[str]()
        """Names of the runs that were missing, and of those that lacked something."""
        self.refused: Exception | None = None
        """The first that MLflow will never take."""
        self.writes = 0
        """How many runs and files were written."""
        self.closed = False
        """Whether nothing more is to be written, be a pass at work or not."""
        self._lock = threading.Lock()
        self._desired: dict[str, DesiredRun] = {}
        self._written: dict[str, DesiredRun] = {}
        self._actual: dict[str, ActualRun] = {}
        self._files: list[tuple[str, Path, Path]] = []
        self._has_tags: dict[str, str] = {}
        self._nobodys: Collection[str] = ("RUNNING",)
        """Statuses of runs that a crash left, where they are not wanted."""

    # --- What it is to be -----------------------------------------------------------------------------------

    def begin(self, study: str, sweep: DesiredRun, *, mark: str, parents: Sequence[str]) -> None:
        """Find or make the experiment and the sweep's run, and write that; learn which runs of trainings are there.

        Args:
            study: its name, which is the experiment's.
            sweep: its run.
            mark: tells this study from others of its name.
            parents: the sweep's runs in any store, as the study knows them, the latest last.

        Raises:
            SweeperError: if the experiment was deleted, or its store was moved.
            Exception: whatever MLflow raises.
        """
        experiment = self.client.get_experiment_by_name(study)
        if experiment is not None and experiment.lifecycle_stage != "active":
            raise SweeperError(
                f"MLflow at {shown_address(self._uri)}: the experiment {study!r} was deleted there, and its name is "
                f"still taken; restore it (mlflow experiments restore --experiment-id {experiment.experiment_id}), or "
                "delete it for good (mlflow gc), and repeat the command"
            )
        if experiment is not None and self._path is not None:
            location = str(experiment.artifact_location)
            if files_elsewhere(self._path, study, location):
                raise UsageError(
                    f"--tracking-uri {shown_address(self._uri)} must be where it was made, as MLflow keeps absolute "
                    f"addresses, and it was moved or copied: it would write the files of study {study!r} to "
                    f"{location}. Name a new store (--tracking-uri sqlite:///NEW.db); `sweeper mlflow` writes any "
                    "study there"
                )
        if experiment is None:  # a server decides for itself where files lie
            place = None if self._path is None else artifacts_of(self._path, study)
            self.experiment_id = self.client.create_experiment(study, artifact_location=place)
        else:
            self.experiment_id, self._has_tags = experiment.experiment_id, dict(experiment.tags)
        sweep = sweep._replace(tags=sweep.tags | {MARK: mark})
        there = self._sweep_run(mark, parents)
        own = create_run(self.client, self.experiment_id, sweep) if there is None else ActualRun.of(there)
        self.parent_run_id = own.run_id
        self._actual = {SWEEP: own} if there is None else {SWEEP: own, **self._trainings()}
        self.run_ids = {name: has.run_id for name, has in self._actual.items()}
        self.put(SWEEP, sweep)
        self._write(SWEEP)

    def wanted(self, name: str) -> DesiredRun | None:
        """The run as it is to be; None where it was written, ended, and forgotten, or never was."""
        return self._desired.get(name)

    def put(self, name: str, run: DesiredRun) -> None:
        """From now on the run is to be like this."""
        with self._lock:
            self._desired[name] = run

    def add_files(self, run_id: str, folder: Path) -> None:
        """A run is to have the files of a folder, as they are when they are sent."""
        self._files += [(run_id, folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]

    def kill(self, statuses: Collection[str], at: int) -> None:
        """No run of a training is to have one of these statuses any more; `at` in milliseconds since 1970."""
        with self._lock:
            self._nobodys = statuses
            for name, run in self._desired.items():
                if name != SWEEP and run.status in statuses:
                    self._desired[name] = run._replace(status="KILLED", end=at)

    # --- What it is -----------------------------------------------------------------------------------------

    @property
    def left(self) -> str:
        """What is not yet known to be as it is to be: `3 runs and 1 file`; "" = nothing."""
        tagged = self.experiment_tags.items() <= self._has_tags.items()
        amounts = {"run": len(self._lacking()) + len(self._left_open()), "file": len(self._files)}
        found = [count(amount, what) for what, amount in amounts.items() if amount]
        return " and ".join([*found, *([] if tagged else ["the experiment's tags"])])

    def sync(self) -> None:
        """Write what MLflow lacks: trainings, the sweep's run, and at last files, which a server may not take.

        Raises:
            LostStoreError: if the store's file was deleted or replaced.
            Exception: whatever MLflow raises. The next pass goes on from there, and comes to what failed at its end.
        """
        if self._file is not None and (fault := self._file.fault()) is not None:
            raise LostStoreError(f"{self._file.path}, MLflow's store, {fault}")
        names = sorted(self._lacking(), key=SWEEP.__eq__)
        writes: list[Callable[[], None]] = [self._write_tags, *(partial(self._write, name) for name in names)]
        writes += [partial(self._close, self._actual[name]) for name in self._left_open()]
        writes += [partial(self._send, sent) for sent in list(self._files)]
        for write in writes:
            if self.closed:
                return
            write()

    def _lacking(self) -> list[str]:
        with self._lock:
            return [name for name, run in self._desired.items() if self._written.get(name) is not run]

    def _left_open(self) -> list[str]:
        """Runs that a crash left, or that waited, of trainings that are not to be here."""
        with self._lock:
            known = list(self._actual.items())
            return [name for name, has in known if has.status in self._nobodys and name not in self._desired]

    def _write_tags(self) -> None:
        for tag, value in self.experiment_tags.items():
            if self._has_tags.get(tag) != value:
                self.client.set_experiment_tag(self.experiment_id, tag, value)
                self._has_tags[tag] = value

    def _write(self, name: str) -> None:
        wanted = self._desired[name]
        try:
            self._make_whole(name, wanted)
        except Exception as error:
            self._actual.pop(name, None)  # what of it arrived is not known
            if not is_refused(error):
                with self._lock:  # the others have their turn first
                    self._desired[name] = self._desired.pop(name)
                raise
            self._refuse(error)
        self.writes += 1
        with self._lock:
            self._written[name] = wanted
            if wanted.status not in OPEN and name != SWEEP and self._desired[name] is wanted:  # most never go on
                del self._desired[name], self._written[name]
                self._actual.pop(name, None)

    def _make_whole(self, name: str, wanted: DesiredRun) -> None:
        has = self._actual.get(name) or self._look_up(name, wanted)
        if has is None:
            has = create_run(self.client, self.experiment_id, wanted)
            self.made.add(name)
        self._actual[name], self.run_ids[name] = has, has.run_id
        if write_run(self.client, wanted, has, self._refuse) and name not in {SWEEP, *self.made}:
            self.completed.add(name)

    def _close(self, has: ActualRun) -> None:
        try:
            self.client.set_terminated(has.run_id, "KILLED")
        except Exception as error:
            if not is_refused(error):
                raise
            self._refuse(error)
        has.status = "KILLED"

    def _send(self, sent: tuple[str, Path, Path]) -> None:
        try:
            send_file(self.client, *sent)
        except Exception:
            self._files.append(sent)  # the others have their turn first
            raise
        finally:
            self._files.remove(sent)
        self.writes += 1

    def _refuse(self, error: Exception) -> None:
        self.refused = self.refused or error

    # --- Finding runs ---------------------------------------------------------------------------------------

    def _sweep_run(self, mark: str, parents: Sequence[str]) -> Run | None:
        for run_id in reversed(parents):
            if (known := self._active(run_id)) is not None:
                return known
        mine = f"tags.`{MARK}` = '{mark}' and tags.`sweeper.kind` = 'sweep'"
        return next(iter(self.client.search_runs([self.experiment_id], mine, max_results=1)), None)

    def _active(self, run_id: str) -> Run | None:
        """The run, where this store has it (a resume may name another store) and nobody deleted it."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            return None
        here = run.info.experiment_id == self.experiment_id and run.info.lifecycle_stage == "active"
        return run if here else None

    def _look_up(self, name: str, wanted: DesiredRun) -> ActualRun | None:
        if name == SWEEP:
            return ActualRun.of(self.client.get_run(self.parent_run_id))
        return self._trainings(*(f"tags.`{tag}` = '{wanted.tags[tag]}'" for tag in IDENTITY)).get(name)

    def _trainings(self, *conditions: str) -> dict[str, ActualRun]:
        """The runs of this sweep's trainings: others may share the experiment's name."""
        mine = " and ".join([f"tags.`mlflow.parentRunId` = '{self.parent_run_id}'", *conditions])
        found = dict[str, ActualRun]()
        for run in reversed(self.client.search_runs([self.experiment_id], mine, max_results=MOST_RUNS)):
            tags = run.data.tags
            if not tags.keys() >= set(IDENTITY):
                continue
            kind, number = (tags[tag] for tag in IDENTITY)
            name = f"{PURPOSE.get(kind, kind)}/{int(number):05d}"
            if name not in found or tags.get("sweeper.state") != "abandoned":  # the newest comes last
                found[name] = ActualRun.of(run)
        return found
