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

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper import storage as studies
from sweeper.core.errors import LostStudyError, SweeperError
from sweeper.core.events import (
    Answer,
    Evaluated,
    Finished,
    OutOfMemory,
    Paused,
    TrainingEvent,
    WorkerLost,
)
from sweeper.core.paths import checkpoint_path
from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.executors.protocol import Executor
from sweeper.executors.task_queue import (
    GRACE_SECONDS,
    HOST,
    KIND,
    OUT_OF_MEMORY,
    REASON,
    RESULT,
    SESSION,
    SLOTS,
    WORKER,
    Queue,
    queue_name,
)
from sweeper.storage.optuna_internals import id_of, storage_of
from sweeper.system.database_waits import Patience

POLL_SECONDS = 0.2
"""How often the queue is read while others train."""
DOORBELL_SECONDS = 2.0
"""And while nobody does: whether someone has joined."""
EXPIRE_SECONDS = 10.0
HERE = -1
"""In place of a worker's number: this process's own workers."""

Key = tuple[str, int]


def _key(spec: TrialSpec) -> Key:
    return spec.purpose, spec.number


def _alike(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations of a training at one step say the same, to the last digit; their time aside."""
    return one == other.model_copy(update={"seconds": one.seconds})


@dataclass
class _Sent:
    """A training in the queue."""

    trial_id: int
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
    _leader: FrozenTrial | None = None
    _workers: dict[int, FrozenTrial] = field(default_factory=dict)
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
        return self.own.slots + sum(self._slots(worker) for worker in self._workers.values())

    def free(self) -> int:
        """Of all machines that are there."""
        elsewhere = sum(self._slots(worker) for worker in self._workers.values()) - len(self._sent)
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
            work = len(self._here) + len(self._backlog) + len(self._returned) + len(self._sent)
            raise LostStudyError(self.study.study_name, work, self.url)
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
                self._part(TrialState.FAIL)
        finally:
            self.own.close()

    def conclude(self) -> None:
        """The study needs no training any more: those who joined may go."""
        try:
            self._part(TrialState.COMPLETE)
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
                f"{spec.purpose} {spec.number} was begun again elsewhere and gives other numbers there: "
                f"{first.value!r} and {evaluation.value!r} at step {evaluation.step}. Use machines of one "
                "kind for one study"
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

    def _slots(self, worker: FrozenTrial) -> int:
        return int(worker.user_attrs[SLOTS])

    def _send(self, spec: TrialSpec, only_for: int | None) -> None:
        assert self._queue is not None and self._leader is not None
        trial_id = self._queue.put(spec.model_dump(mode="json"), self._leader.number, only_for)
        self._sent[_key(spec)] = _Sent(trial_id, spec, only_for)

    def _read_queue(self, *, at_once: bool) -> list[TrainingEvent]:
        """Who is there, and what they did since the queue was read last."""
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
        trials = self._queue.trials()
        if self._leader is None or trials[self._leader.number].state.is_finished():
            self._leader = self._queue.enter("leader")  # we were not heard of for a while
        self._greet({t.number: t for t in trials if t.state == TrialState.RUNNING and t.user_attrs[KIND] == "worker"})
        by_id = {id_of(trial): trial for trial in trials}
        return [event for sent in list(self._sent.values()) for event in self._news(sent, by_id[sent.trial_id])]

    def _opened(self) -> bool:
        """Take the lead of the queue, once somebody has made it."""
        try:
            storage_of(self.study).get_study_id_from_name(queue_name(self.study.study_name))
        except KeyError:
            return False
        self._queue = Queue(self.url, self.study.study_name, self.patience)
        for trial in self._queue.trials():  # of a leader before us
            if not trial.state.is_finished() and trial.user_attrs[KIND] != "worker":
                self._queue.finish(trial, TrialState.FAIL)
        self._leader = self._queue.enter("leader")
        return True

    def _greet(self, there: dict[int, FrozenTrial]) -> None:
        for number, worker in there.items():
            if number not in self._workers:
                self.say(f"{worker.user_attrs[HOST]} joined with {self._slots(worker)} worker(s)")
        for number, worker in self._workers.items():
            if number not in there:
                self.say(f"{worker.user_attrs[HOST]} left")
        self._workers = there

    def _news(self, sent: _Sent, trial: FrozenTrial) -> list[TrainingEvent]:
        """What became of one training since the queue was read last."""
        events: list[TrainingEvent] = []
        while (found := trial.user_attrs.get(f"evaluation/{sent.told:02d}")) is not None:
            sent.told += 1
            evaluation, last = Evaluation.model_validate(found["evaluation"]), bool(found["last"])
            answers = self._answers[_key(sent.spec)]
            if self._new(sent.spec, evaluation):
                events.append(Evaluated(sent.spec, evaluation, last))
            elif not last:
                self._reply(sent, answers[evaluation.step])
        if trial.state == TrialState.WAITING and self._nobody_for(sent, trial):
            assert self._queue is not None
            self._queue.finish(trial, TrialState.FAIL)
            self._again(sent)
        if trial.state.is_finished():
            events += self._outcome(sent, trial)
        return events

    def _outcome(self, sent: _Sent, trial: FrozenTrial) -> list[TrainingEvent]:
        place = trial.user_attrs.get(WORKER, HERE)
        if trial.state == TrialState.FAIL and trial.user_attrs.get("returned"):
            self._again(sent)
            return []
        del self._sent[_key(sent.spec)]
        event: TrainingEvent
        if trial.state == TrialState.FAIL:
            quiet = f"its machine was not heard of for {GRACE_SECONDS} s"
            ended = OutOfMemory if trial.user_attrs.get(OUT_OF_MEMORY) else WorkerLost
            event = ended(sent.spec, trial.user_attrs.get(REASON, quiet))
        else:
            result = TrialResult.model_validate(trial.user_attrs[RESULT])
            event = (Paused if trial.state == TrialState.PRUNED else Finished)(sent.spec, result)
        self._ended(event, place)
        return [event]

    def _nobody_for(self, sent: _Sent, trial: FrozenTrial) -> bool:
        """Whether those who could take it are gone."""
        ours = self._leader is not None and trial.user_attrs[SESSION] == self._leader.number
        return not ours or not self._workers or (sent.only_for is not None and sent.only_for not in self._workers)

    def _again(self, sent: _Sent) -> None:
        """Give a training to another, as soon as there is one."""
        del self._sent[_key(sent.spec)]
        self._returned.append(sent.spec)

    def _place_returned(self) -> None:
        waiting, self._returned = self._returned, []
        while waiting and self.free():
            self._place(waiting.pop(0))
        self._returned = waiting

    def _reply(self, sent: _Sent, answer: Answer) -> None:
        if self._queue is not None:
            self._queue.write(sent.trial_id, f"answer/{sent.told - 1:02d}", answer)

    def _part(self, state: TrialState) -> None:
        if self._queue is None:
            return
        queue, self._queue = self._queue, None
        trials = {id_of(trial): trial for trial in queue.trials()}
        for sent in self._sent.values():
            queue.finish(trials[sent.trial_id], TrialState.FAIL)
        self._sent.clear()
        self._workers = {}
        if self._leader is not None:
            queue.leave(self._leader, state)
        queue.close()
