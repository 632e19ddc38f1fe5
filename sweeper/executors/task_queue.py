"""Trainings that several machines share, as a second Optuna study beside the first: `STUDY/trainings`.

One process leads the study: it asks, decides and stores, as ever. Others join: they take trainings out of this queue,
and never touch the study itself. Who is there, and what is to be trained, are trials here:

- `leader`: RUNNING while one leads, COMPLETE when the study was concluded;
- `worker`: RUNNING while a process that joined is there, with its `slots`;
- `training`: WAITING until a worker takes it, RUNNING while it trains, COMPLETE or PRUNED (paused) with its result,
  FAIL with the reason, or without one when its machine was not heard of any more.

A waiting trial is taken by one process alone, by `SteadyStorage`'s own UPDATE with a condition: on SQLite Optuna's way
gives it to two. Everybody there writes a heartbeat into Optuna's table every `BEAT_SECONDS`; gone is whose heartbeat
does not change while another process watches for `GRACE_SECONDS`. So no time of day is compared, which may be set back
or forward meanwhile. An evaluation is an attribute that the worker writes (`evaluation/00`), its answer one of the
leader's (`answer/00`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper.storage.attributes import QUEUE_OF
from sweeper.storage.database import open_storage
from sweeper.storage.optuna_internals import id_of, storage_of, study_id
from sweeper.storage.resilient_storage import SteadyStorage
from sweeper.system.clocks import running_seconds
from sweeper.system.database_waits import Patience

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

BEAT_SECONDS = 10
"""Who is there says so this often."""
GRACE_SECONDS = 60
"""Who was silent for so long is gone."""
KIND, HOST, SLOTS, SESSION, ONLY_FOR, WORKER = "kind", "host", "slots", "session", "only_for", "worker"
SPEC, RESULT, REASON, OUT_OF_MEMORY = "spec", "result", "reason", "out_of_memory"


def queue_name(study: str) -> str:
    """Name of the queue's study."""
    return f"{study}/trainings"


class Queue:
    """One process's end of the queue of a study."""

    def __init__(self, url: str, study: str, patience: Patience | None = None) -> None:
        """Open the queue, and make it where it is missing; `patience` is this process's.

        Raises:
            StudyError, UsageError: as `open_storage`.
        """
        storage = open_storage(url, create=False, patience=patience)
        # Set here, as the constructor warns that Optuna's heartbeats are experimental.
        storage.heartbeat_interval, storage.grace_period = BEAT_SECONDS, GRACE_SECONDS
        self._study = optuna.create_study(storage=storage, study_name=queue_name(study), load_if_exists=True)
        self._study.set_user_attr(QUEUE_OF, study)
        self._storage: BaseStorage = storage_of(self._study)
        assert isinstance(storage, SteadyStorage)
        self._database = storage
        self._beats: dict[int, tuple[datetime | None, float]] = {}
        """Of each running trial the last heartbeat, None before the first, and since when we know of it."""
        self._heart = _Heart(self._storage)
        self.host = socket.gethostname()

    def enter(self, kind: str, **attributes: Any) -> FrozenTrial:
        """Say that a `leader` or `worker` is there, until `leave`, or until this process is not heard of any more."""
        own = {KIND: kind, HOST: self.host, "pid": os.getpid(), **attributes}
        template = create_trial(state=TrialState.RUNNING, values=None, user_attrs=own)
        template.datetime_start = datetime.now()
        trial = self._storage.get_trial(self._storage.create_new_trial(study_id(self._study), template))
        self._heart.add(id_of(trial))
        return trial

    def leave(self, own: FrozenTrial, state: TrialState) -> None:
        """Say that it goes: COMPLETE when the study is concluded."""
        self._heart.remove(id_of(own))
        self.finish(own, state)

    def close(self) -> None:
        """End the heartbeats."""
        self._heart.stop()

    def trials(self) -> list[FrozenTrial]:
        """Everyone and everything, those that are gone among them, by number."""
        return self._study.get_trials(deepcopy=False)

    def expire(self) -> None:
        """End what belongs to machines that were not heard of while this process watched for a minute, or never were.

        Not while the database is away, nor in the minute after: nobody was heard of then.
        """
        if not self._heart.settled():
            return
        now, beats = running_seconds(), self._database.heartbeats(study_id(self._study))
        kept = {i: known for i, known in self._beats.items() if beats.get(i) == known[0]}
        self._beats = {i: kept.get(i, (beat, now)) for i, beat in beats.items()}
        for trial_id in [i for i, (_, since) in self._beats.items() if now - since > GRACE_SECONDS]:
            with suppress(UpdateFinishedTrialError):
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def put(self, spec: dict[str, Any], session: int, only_for: int | None) -> int:
        """Queue a training; its id. `only_for` is the number of the one worker that may take it; None = any."""
        attributes = {KIND: "training", SPEC: spec, SESSION: session, ONLY_FOR: only_for}
        template = create_trial(state=TrialState.WAITING, user_attrs=attributes)
        trial_id = self._storage.create_new_trial(study_id(self._study), template)
        self._storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]  # should its taker die at once
        return trial_id

    def take(self, waiting: Sequence[FrozenTrial], worker: FrozenTrial) -> FrozenTrial | None:
        """The first of these waiting trainings that no other takes."""
        for trial in waiting:
            self._heart.add(id_of(trial))  # before it runs: it may have waited for longer than the grace
            with suppress(UpdateFinishedTrialError):
                if self._storage.set_trial_state_values(id_of(trial), TrialState.RUNNING):
                    self.write(id_of(trial), WORKER, worker.number)
                    return trial
            self._heart.remove(id_of(trial))
        return None

    def write(self, trial_id: int, key: str, value: Any) -> None:
        """Note something with a trial, unless that has ended."""
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial_id, key, value)

    def finish(self, trial: FrozenTrial, state: TrialState) -> None:
        """End a trial, unless it has ended."""
        self._heart.remove(id_of(trial))
        values = [0.0] if state == TrialState.COMPLETE else None
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_state_values(id_of(trial), state, values)


class _Heart:
    """Says, in a thread, that this process and what it trains are there: its loop may be busy for long."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage, self._ids, self._lock = storage, set[int](), threading.Lock()
        self._last, self._since = time.monotonic(), float("-inf")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="sweeper-heart", daemon=True)
        self._thread.start()

    def add(self, trial_id: int) -> None:
        """Beat for this one, too, from now on."""
        self._record(trial_id)
        with self._lock:
            self._ids.add(trial_id)

    def remove(self, trial_id: int) -> None:
        """And no more for this one."""
        with self._lock:
            self._ids.discard(trial_id)

    def settled(self) -> bool:
        """Whether every beat of the last minute got through in time."""
        now = time.monotonic()
        return now - self._last <= 3 * BEAT_SECONDS and now - self._since >= GRACE_SECONDS

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join(BEAT_SECONDS)

    def _beat(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            with self._lock:
                ids = list(self._ids)
            with suppress(Exception):  # the storage has waited already; the next beat may get through
                for trial_id in ids:
                    self._record(trial_id)
                now = time.monotonic()
                if now - self._last > 3 * BEAT_SECONDS:
                    self._since = now
                self._last = now

    def _record(self, trial_id: int) -> None:
        self._storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]
