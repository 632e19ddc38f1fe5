"""The leader's end of a shared study: an executor that hands to the machines that joined what its own does not take.

To the search and the confirmation it is one executor with more workers. A machine that goes quietly gives back what it
was training, which then goes to another without anyone's notice: the same spec gives the same evaluations, and those
that were told already are not told again. One that is not heard of any more costs an attempt, like a dead worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper import storage as studies
from sweeper.core.errors import LostStudyError, SweeperError
from sweeper.core.events import Answer, Evaluated, Finished, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.paths import checkpoint_path
from sweeper.core.records import Evaluation, TrialSpec
from sweeper.core.text import count
from sweeper.executors.protocol import Executor
from sweeper.executors.task_queue import GRACE_SECONDS, Queue
from sweeper.storage.queue_tables import Member, MemberState, QueuedTraining, queue_exists
from sweeper.system.database_waits import Patience

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.2
"""How often the queue is read while others train."""
DOORBELL_SECONDS = 2.0
"""And while nobody does: whether someone has joined."""
EXPIRE_SECONDS = 10.0
HERE = -1
"""In place of a member's id: this process's own workers."""

Key = tuple[str, int]


def _key(spec: TrialSpec) -> Key:
    return spec.purpose, spec.number


def _alike(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations of a training at one step say the same, to the last digit; their time aside."""
    return one == other.model_copy(update={"seconds": one.seconds})


@dataclass
class _Sent:
    """A training in the queue."""

    id: int
    """In the queue."""
    spec: TrialSpec
    only_for: int | None
    told: int = 0
    """Evaluations of this attempt that were seen."""


@dataclass
class SharedExecutor:
    """`own` workers and those of every machine that joins the study."""

    own: Executor
    url: str
    study: optuna.Study
    checkpoints: Path
    say: Callable[[str], None]
    lost: Callable[[], bool] = lambda: False
    """Whether another process runs the study by now."""
    patience: Patience | None = None
    """This process's, with the database."""
    clock: Callable[[], float] = time.monotonic
    _queue: Queue | None = None
    _leader: int | None = None
    """This process's member of the queue."""
    _workers: dict[int, Member] = field(default_factory=dict)
    _sent: dict[Key, _Sent] = field(default_factory=dict)
    _here: set[Key] = field(default_factory=set)
    _backlog: list[TrialSpec] = field(default_factory=list)
    """Trainings whose checkpoint lies here, until a worker of ours is free."""
    _returned: list[TrialSpec] = field(default_factory=list)
    """Trainings that were given back, until anyone has room."""
    _paused_at: dict[Key, int] = field(default_factory=dict)
    _answers: dict[Key, dict[int, Answer]] = field(default_factory=dict)
    """What was answered to the evaluations of a training that were told, by step; the last may not be answered yet."""
    _told: dict[Key, dict[int, Evaluation]] = field(default_factory=dict)
    """These evaluations, in this session."""
    _differ: set[Key] = field(default_factory=set)
    """Trainings that gave other numbers when they were repeated."""
    _last_read: float = float("-inf")
    _expired: float = float("-inf")

    # --- the interface of an executor ---

    @property
    def slots(self) -> int:
        """Of all machines that are there."""
        return self.own.slots + sum(worker.slots for worker in self._workers.values())

    def free(self) -> int:
        """Of all machines that are there."""
        elsewhere = sum(worker.slots for worker in self._workers.values()) - len(self._sent)
        return max(0, self.own.free() - len(self._backlog) + max(0, elsewhere) - len(self._returned))

    def submit(self, spec: TrialSpec) -> None:
        """Here if there is room, else into the queue; one that was paused goes on where its checkpoint lies."""
        key = _key(spec)
        self._answers[key] = dict.fromkeys(self._answers.get(key, {}), "go")  # it went, or goes now, beyond these
        self._place(spec)

    def _place(self, spec: TrialSpec) -> None:
        place = self._paused_at.pop(_key(spec), None)
        if place is None and checkpoint_path(self.checkpoints, spec).exists():
            place = HERE
        if place == HERE or (place not in self._workers and self.own.free() > len(self._backlog)):
            self._backlog.append(spec)
            self._begin_here()
            return
        self._send(spec, place if place in self._workers else None)

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """What is new, here and elsewhere.

        Raises:
            LostStudyError: if another process has taken the study over.
        """
        if self.lost():
            raise self._lost_study()
        events = self._read_queue(at_once=timeout_seconds == 0)
        self._place_returned()
        wait = 0.0 if events else min(timeout_seconds, POLL_SECONDS) if self._sent else timeout_seconds
        events += self._from_here(self.own.poll(wait))  # though nothing runs here: its workers may become ready
        self._begin_here()
        return events

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """To the machine that trains it."""
        key = _key(spec)
        answers = self._answers[key]
        answers[max(answers)] = answer
        sent = self._sent.get(key)
        if sent is None:
            self.own.answer(spec, answer)
        elif sent.told:  # else it was given back meanwhile, and who takes it next is told on arriving there
            self._reply(sent, answer)

    def close(self) -> None:
        """End everything here; those who joined wait for another to lead the study."""
        try:
            with suppress(SweeperError):  # a database that is away: those who joined notice by themselves
                self._part("left")
        finally:
            self.own.close()

    def conclude(self) -> None:
        """The study needs no training any more: those who joined may go."""
        try:
            self._part("concluded")
        finally:
            self.own.close()

    # --- here ---

    def _begin_here(self) -> None:
        while self._backlog and self.own.free():
            spec = self._backlog.pop(0)
            self._here.add(_key(spec))
            self.own.submit(spec)

    def _from_here(self, events: list[TrainingEvent]) -> list[TrainingEvent]:
        fresh: list[TrainingEvent] = []
        for event in events:
            if isinstance(event, Evaluated):
                answers = self._answers[_key(event.spec)]
                if self._new(event.spec, event.evaluation):
                    fresh.append(event)
                elif not event.last:
                    self.own.answer(event.spec, answers[event.evaluation.step])
                continue
            self._here.discard(_key(event.spec))
            self._ended(event, HERE)
            fresh.append(event)
        return fresh

    def _new(self, spec: TrialSpec, evaluation: Evaluation) -> bool:
        """Whether an evaluation was not told before; one that was is compared with what was told."""
        key = _key(spec)
        told = self._told.setdefault(key, {})
        if evaluation.step not in self._answers[key]:
            self._answers[key][evaluation.step] = "go"
            told[evaluation.step] = evaluation
            return True
        first = told.get(evaluation.step)
        if first is not None and key not in self._differ and not _alike(first, evaluation):
            self._differ.add(key)
            studies.note_difference(self.study, spec, first, evaluation)
            self.say(
                f"{spec.purpose} {spec.number} was begun again and gives other numbers: {first.value!r} and "
                f"{evaluation.value!r} at step {evaluation.step}. Use machines of one kind for one study, and "
                "on GPUs --deterministic for a new one"
            )
        return False

    def _ended(self, event: TrainingEvent, place: int) -> None:
        key = _key(event.spec)
        if isinstance(event, Paused):
            self._paused_at[key] = place
        else:
            self._answers.pop(key, None)
            self._told.pop(key, None)

    # --- elsewhere ---

    def _send(self, spec: TrialSpec, only_for: int | None) -> None:
        assert self._queue is not None and self._leader is not None
        self._sent[_key(spec)] = _Sent(self._queue.put(spec, self._leader, only_for), spec, only_for)

    def _lost_study(self) -> LostStudyError:
        work = len(self._here) + len(self._backlog) + len(self._returned) + len(self._sent)
        return LostStudyError(self.study.study_name, work, self.url)

    def _read_queue(self, *, at_once: bool) -> list[TrainingEvent]:
        """Who is there, and what they did since the queue was read last.

        Raises:
            LostStudyError: if another leader has entered: who may do so runs the study, though our lock may not know.
        """
        now = self.clock()
        pause = POLL_SECONDS if self._sent else DOORBELL_SECONDS
        if now - self._last_read < pause and not (at_once and self._sent):
            return []
        self._last_read = now
        if self._queue is None and not self._opened():
            return []
        assert self._queue is not None
        if now - self._expired >= EXPIRE_SECONDS:
            self._expired = now
            self._queue.expire()
        members = self._queue.tables.members()
        if self._leader is not None and any(m.kind == "leader" and m.id > self._leader for m in members.values()):
            raise self._lost_study()
        if self._leader is None or members[self._leader].state != "there":
            self._leader = self._queue.enter("leader")  # we were not heard of for a while
        self._greet({i: m for i, m in members.items() if m.state == "there" and m.kind == "worker"})
        sent = list(self._sent.values())
        queued = self._queue.tables.trainings([one.id for one in sent]) if sent else {}
        return [event for one in sent for event in self._news(one, queued.get(one.id))]

    def _opened(self) -> bool:
        """Take the lead of the queue, once somebody has made it."""
        if not queue_exists(self.study):
            return False
        self._queue = Queue(self.url, self.study.study_name, self.patience)
        self._queue.tables.remove_all()  # of a leader before us
        for member in self._queue.tables.members().values():
            if member.kind == "leader":
                self._queue.tables.end_member(member.id, "lost")
        self._leader = self._queue.enter("leader")
        return True

    def _greet(self, there: dict[int, Member]) -> None:
        for member, worker in there.items():
            if member not in self._workers:
                self.say(f"{worker.host} joined for {count(worker.slots, 'training')} at a time")
        for member, worker in self._workers.items():
            if member not in there:
                self.say(f"{worker.host} left")
        self._workers = there

    def _news(self, sent: _Sent, queued: QueuedTraining | None) -> list[TrainingEvent]:
        """What became of one training since the queue was read last; one that is gone from it goes to another."""
        events: list[TrainingEvent] = []
        if queued is None:
            self._again(sent)
            return events
        for told in queued.told[sent.told :]:
            sent.told += 1
            answers = self._answers[_key(sent.spec)]
            if self._new(sent.spec, told.evaluation):
                events.append(Evaluated(sent.spec, told.evaluation, told.last))
            elif not told.last:
                self._reply(sent, answers[told.evaluation.step])
        if queued.state == "waiting":
            if self._nobody_for(sent, queued):
                self._again(sent)
        elif queued.state != "running":
            events += self._outcome(sent, queued)
        return events

    def _outcome(self, sent: _Sent, queued: QueuedTraining) -> list[TrainingEvent]:
        """The event that ended it; none where it was given back."""
        if queued.state == "returned":
            self._again(sent)
            return []
        self._forget(sent)
        event: TrainingEvent
        if queued.result is not None:
            ended = Paused if queued.state == "paused" else Finished
            event = ended(sent.spec, queued.result)
        else:
            reason = queued.reason or f"its machine was not heard of for {GRACE_SECONDS} s"
            event = (OutOfMemory if queued.state == "out_of_memory" else WorkerLost)(sent.spec, reason)
        self._ended(event, HERE if queued.worker is None else queued.worker)
        return [event]

    def _nobody_for(self, sent: _Sent, queued: QueuedTraining) -> bool:
        """Whether those who could take it are gone."""
        ours = queued.leader == self._leader
        return not ours or not self._workers or (sent.only_for is not None and sent.only_for not in self._workers)

    def _again(self, sent: _Sent) -> None:
        """Give a training to another, as soon as there is one."""
        self._forget(sent)
        self._returned.append(sent.spec)

    def _forget(self, sent: _Sent) -> None:
        """Take it out of the queue: a machine that trains it all the same sees that nobody wants it."""
        del self._sent[_key(sent.spec)]
        if self._queue is not None:
            self._queue.tables.remove([sent.id])

    def _place_returned(self) -> None:
        waiting, self._returned = self._returned, []
        while waiting and self.free():
            self._place(waiting.pop(0))
        self._returned = waiting

    def _reply(self, sent: _Sent, answer: Answer) -> None:
        if self._queue is not None:
            self._queue.tables.answer(sent.id, sent.told - 1, answer)

    def _part(self, state: MemberState) -> None:
        if self._queue is None:
            return
        queue, self._queue = self._queue, None
        queue.tables.remove([sent.id for sent in self._sent.values()])
        self._sent.clear()
        self._workers = {}
        if self._leader is not None:
            queue.leave(self._leader, state)
        queue.close()
