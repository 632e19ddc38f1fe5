"""Trainings that several machines share: one process's end of the queue that lies beside the study.

One process leads the study: it asks, decides and stores, as ever. Others join: they take trainings out of this queue,
and never touch the study itself. The tables are those of `sweeper.storage.queue_tables`. Everybody there says so every
`BEAT_SECONDS`; gone is whose beats do not change while another process watches for `GRACE_SECONDS`. So no time of day
is compared, which may be set back or forward meanwhile.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from sweeper.core.records import TrialSpec
from sweeper.storage.queue_tables import MEMBERS, TRAININGS, MemberState, QueuedTraining, QueueTables, open_queue
from sweeper.system.clocks import running_seconds
from sweeper.system.database_waits import Patience

BEAT_SECONDS = 10
"""Who is there says so this often."""
GRACE_SECONDS = 60
"""Who was silent for so long is gone."""


class Queue:
    """One process's end of the queue of a study."""

    def __init__(self, url: str, study: str, patience: Patience | None = None) -> None:
        """Open the queue, and make it where it is missing; `patience` is this process's.

        Raises:
            StudyError, UsageError: as `open_storage`.
        """
        self.tables: QueueTables = open_queue(url, study, patience)
        self._heard: dict[tuple[str, int], tuple[int, float]] = {}
        """Of each that is there its beats, and since when we know of them."""
        self._heart = _Heart(self.tables)
        self.host = socket.gethostname()

    def enter(self, kind: Literal["leader", "worker"], slots: int = 0) -> int:
        """Say that a `leader` or `worker` is there, until `leave`, or until this process is not heard of any more.

        Returns:
            The id of this member.
        """
        member = self.tables.add_member(kind, self.host, os.getpid(), slots)
        self._heart.add(MEMBERS.name, member)
        return member

    def leave(self, member: int, state: MemberState) -> None:
        """Say that it goes."""
        self._heart.remove(MEMBERS.name, member)
        self.tables.end_member(member, state)

    def close(self) -> None:
        """End the heartbeats."""
        self._heart.stop()

    def expire(self) -> None:
        """End what belongs to machines that were not heard of while this process watched for a minute.

        Not while the database is away, nor in the minute after: nobody was heard of then.
        """
        if not self._heart.settled():
            return
        now, beats = running_seconds(), self.tables.beats()
        kept = {key: known for key, known in self._heard.items() if beats.get(key) == known[0]}
        self._heard = {key: kept.get(key, (count, now)) for key, count in beats.items()}
        if silent := [key for key, (_, since) in self._heard.items() if now - since > GRACE_SECONDS]:
            self.tables.lose(silent)

    def take(self, waiting: Sequence[QueuedTraining], worker: int) -> QueuedTraining | None:
        """The first of these waiting trainings that no other takes."""
        for training in waiting:
            if self.tables.take(training.id, worker):
                self._heart.add(TRAININGS.name, training.id)
                return training
        return None

    def put(self, spec: TrialSpec, leader: int, only_for: int | None) -> int:
        """Queue a training; its id. `only_for` is the one member that may take it; None = any."""
        return self.tables.put(spec, leader, only_for)

    def release(self, training: int) -> None:
        """No more heartbeats for a training that ended here."""
        self._heart.remove(TRAININGS.name, training)


class _Heart:
    """Says, in a thread, that this process and what it trains are there: its loop may be busy for long."""

    def __init__(self, tables: QueueTables) -> None:
        self._tables, self._lock = tables, threading.Lock()
        self._own: dict[str, set[int]] = {MEMBERS.name: set(), TRAININGS.name: set()}
        self._last, self._since = time.monotonic(), float("-inf")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper-heart", daemon=True)
        self._thread.start()

    def add(self, table: str, row: int) -> None:
        """Beat for this one, too, from now on."""
        with self._lock:
            self._own[table].add(row)

    def remove(self, table: str, row: int) -> None:
        """And no more for this one."""
        with self._lock:
            self._own[table].discard(row)

    def settled(self) -> bool:
        """Whether every beat of the last minute got through in time."""
        now = time.monotonic()
        return now - self._last <= 3 * BEAT_SECONDS and now - self._since >= GRACE_SECONDS

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join(BEAT_SECONDS)

    def _run(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            with suppress(Exception):  # the storage has waited already; the next beat may get through
                self._beat()
                now = time.monotonic()
                if now - self._last > 3 * BEAT_SECONDS:
                    self._since = now
                self._last = now

    def _beat(self) -> None:
        with self._lock:
            members, trainings = list(self._own[MEMBERS.name]), list(self._own[TRAININGS.name])
        self._tables.beat(members, trainings)
