"""The other end of a shared study: a process that takes trainings out of the queue until the study is concluded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sweeper.core.events import Answer, Evaluated, Finished, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.records import TrialSpec
from sweeper.executors.failure_limit import Failures
from sweeper.executors.protocol import Executor
from sweeper.executors.task_queue import Queue
from sweeper.storage.queue_tables import Member, QueuedTraining, TrainingState
from sweeper.system.clocks import running_seconds

POLL_SECONDS = 0.2
IDLE_SECONDS = 1.0
EXPIRE_SECONDS = 10.0
LEADER_SECONDS = 600.0
"""How long those who joined wait for a run that leads the study."""

Ending = Literal["concluded", "alone", "stopped"]
"""The study was concluded; nobody led it for `LEADER_SECONDS`; this process was to stop."""


@dataclass
class _Taken:
    id: int
    """In the queue."""
    spec: TrialSpec
    told: int = 0
    waits: bool = False
    """Whether it was evaluated, and has no answer yet."""
    cancelled: bool = False


def _key(spec: TrialSpec) -> tuple[str, int]:
    return spec.purpose, spec.number


class Joined:
    """One process that joined, with its executor."""

    def __init__(
        self, queue: Queue, executor: Executor, say: Callable[[str], None], clock: Callable[[], float] = running_seconds
    ) -> None:
        self._queue, self._executor, self._say, self._clock = queue, executor, say, clock
        self._taken: dict[tuple[str, int], _Taken] = {}
        self._led = self._last_read = self._expired = float("-inf")
        self._leader: Member | None = None
        self._failures = Failures()
        self._slots = 0
        """As the others know."""
        self.finished: list[TrialSpec] = []
        """Trainings that it brought to their end."""

    def serve(self, stopping: Callable[[], str | None], concluded: bool) -> Ending:
        """Train what is asked for until there is no more.

        Args:
            stopping: a reason to stop before, looked at between events.
            concluded: whether the study has a conclusion already: without a leader there is nothing to wait for.

        Raises:
            ExecutorError: if nothing can be trained here any more, or too many trainings in a row failed; what is in
                work goes to another machine.
        """
        own = self._enter()
        self._led = self._clock()
        try:
            while True:
                if stopping() is not None:
                    return "stopped"
                members = self._read_members()
                if members is not None and (ending := self._ending(members, concluded)) is not None:
                    return ending
                if members is not None:
                    own = self._still_there(own, members)
                    queued = self._queue.tables.trainings(self._own(), waiting=self._leader is not None)
                    self._follow_answers(queued)
                    self._take(queued, own)
                for event in self._poll():
                    self._failures.see(event)
                    self._tell(event)
                if self._executor.slots != self._slots:  # as where memory ran out, or a worker was given up
                    self._slots = self._executor.slots
                    self._queue.tables.set_slots(own, self._slots)
                self._failures.check(self._executor.slots)
        finally:
            try:
                self._give_back()
                self._queue.leave(own, "left")
            finally:  # a database that is away takes neither: the others see by the heart that this machine is gone
                self._queue.close()

    def _read_members(self) -> dict[int, Member] | None:
        """Who is there; None where the queue was read a moment ago."""
        now = self._clock()
        if now - self._last_read < (POLL_SECONDS if self._taken or self._leader is not None else IDLE_SECONDS):
            return None
        self._last_read = now
        if now - self._expired >= EXPIRE_SECONDS:
            self._expired = now
            self._queue.expire()
        return self._queue.tables.members()

    def _own(self) -> list[int]:
        return [taken.id for taken in self._taken.values()]

    def _still_there(self, own: int, members: dict[int, Member]) -> int:
        """Enter again, should the others have taken this machine for dead: a network that was down for long."""
        if members[own].state == "there":
            return own
        self._say("this machine was not heard of for a while; joining again")
        return self._enter()

    def _enter(self) -> int:
        self._slots = self._executor.slots
        return self._queue.enter("worker", slots=self._slots)

    def _ending(self, members: dict[int, Member], concluded: bool) -> Ending | None:
        """Who leads, and whether there is an end."""
        leaders = [member for member in members.values() if member.kind == "leader"]
        before, now = self._leader, self._clock()
        self._leader = leaders[-1] if leaders and leaders[-1].state == "there" else None
        if self._leader is not None:
            self._led = now
            if before is None or before.id != self._leader.id:
                self._say(f"working for the run on {self._leader.host}")
            return None
        if (before is not None and leaders[-1].state == "concluded") or (before is None and concluded):
            return "concluded"
        if before is not None:
            self._say(f"the run that led the study has ended; waiting {LEADER_SECONDS / 60:.0f} min for another")
        return "alone" if now - self._led > LEADER_SECONDS else None

    def _follow_answers(self, queued: dict[int, QueuedTraining]) -> None:
        """Pass answers on, and stop what the leader wants no more."""
        for taken in list(self._taken.values()):
            found = queued.get(taken.id)
            if found is None or found.state != "running":
                taken.cancelled = True
            answer: Answer | None = "stop"
            if not taken.cancelled:
                assert found is not None
                answer = found.told[-1].answer if taken.told and len(found.told) == taken.told else None
            if taken.waits and answer is not None:
                taken.waits = False
                self._executor.answer(taken.spec, answer)

    def _take(self, queued: dict[int, QueuedTraining], own: int) -> None:
        if self._leader is None:
            return
        waiting = [
            training
            for training in queued.values()
            if training.state == "waiting"
            and training.leader == self._leader.id
            and training.only_for in (None, own)
            # One that was called back may still be on its way to its end.
            and _key(training.spec) not in self._taken
        ]
        while waiting and self._executor.free():
            training = self._queue.take(waiting, own)
            if training is None:
                return
            waiting = waiting[waiting.index(training) + 1 :]
            self._taken[_key(training.spec)] = _Taken(training.id, training.spec)
            self._executor.submit(training.spec)

    def _poll(self) -> list[TrainingEvent]:
        trains = any(not taken.waits for taken in self._taken.values())
        # Though nothing is trained: its workers may become ready.
        return self._executor.poll(POLL_SECONDS if trains or self._leader is not None else IDLE_SECONDS)

    def _tell(self, event: TrainingEvent) -> None:
        """Pass an event on to the leader."""
        taken = self._taken[_key(event.spec)]
        tables = self._queue.tables
        if isinstance(event, Evaluated):
            tables.tell(taken.id, taken.told, event.evaluation, last=event.last)
            taken.told += 1
            taken.waits = not event.last
            return
        del self._taken[_key(event.spec)]
        self._queue.release(taken.id)
        if taken.cancelled:
            return
        if isinstance(event, OutOfMemory | WorkerLost):
            state: TrainingState = "out_of_memory" if isinstance(event, OutOfMemory) else "failed"
            tables.end_training(taken.id, state, reason=f"{event.reason} (on {self._queue.host})")
            return
        state = "paused" if isinstance(event, Paused) else "finished"
        tables.end_training(taken.id, state, result=event.result)
        if isinstance(event, Finished):
            self.finished.append(event.spec)

    def _give_back(self) -> None:
        """What is not finished goes to another."""
        for taken in self._taken.values():
            self._queue.tables.end_training(taken.id, "returned")
        self._taken.clear()
