"""The other end of a shared study: a process that takes trainings out of the queue until the study is concluded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from sweeper.core.events import Answer, Evaluated, Finished, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.records import TrialSpec
from sweeper.executors.failure_limit import Failures
from sweeper.executors.protocol import Executor
from sweeper.executors.task_queue import HOST, KIND, ONLY_FOR, OUT_OF_MEMORY, REASON, RESULT, SESSION, SPEC, Queue
from sweeper.storage.optuna_internals import id_of
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
    trial: FrozenTrial
    spec: TrialSpec
    told: int = 0
    waits: bool = False
    """Whether it was evaluated, and has no answer yet."""
    cancelled: bool = False


def _key(trial: FrozenTrial) -> tuple[str, int]:
    spec = trial.user_attrs[SPEC]
    return spec["purpose"], spec["number"]


class Joined:
    """One process that joined, with its executor."""

    def __init__(
        self, queue: Queue, executor: Executor, say: Callable[[str], None], clock: Callable[[], float] = running_seconds
    ) -> None:
        self._queue, self._executor, self._say, self._clock = queue, executor, say, clock
        self._taken: dict[tuple[str, int], _Taken] = {}
        self._led = self._last_read = self._expired = float("-inf")
        self._leader: FrozenTrial | None = None
        self._failures = Failures()
        self.finished = 0
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
        own = self._queue.enter("worker", slots=self._executor.slots)
        self._led = self._clock()
        try:
            while True:
                if stopping() is not None:
                    return "stopped"
                trials = self._read_queue()
                if trials is not None and (ending := self._ending(trials, concluded)) is not None:
                    return ending
                if trials is not None:
                    own = self._still_there(own, trials)
                    self._follow_answers({id_of(trial): trial for trial in trials})
                    self._take(trials, own)
                for event in self._poll():
                    self._failures.see(event)
                    self._tell(event)
                self._failures.check(self._executor.slots)
        finally:
            try:
                self._give_back()
                self._queue.leave(own, TrialState.FAIL)
            finally:  # a database that is away takes neither: the others see by the heart that this machine is gone
                self._queue.close()

    def _read_queue(self) -> list[FrozenTrial] | None:
        now = self._clock()
        if now - self._last_read < (POLL_SECONDS if self._taken or self._leader is not None else IDLE_SECONDS):
            return None
        self._last_read = now
        if now - self._expired >= EXPIRE_SECONDS:
            self._expired = now
            self._queue.expire()
        return self._queue.trials()

    def _still_there(self, own: FrozenTrial, trials: list[FrozenTrial]) -> FrozenTrial:
        """Enter again, should the others have taken this machine for dead: a network that was down for long."""
        if not trials[own.number].state.is_finished():
            return own
        self._say("this machine was not heard of for a while; joining again")
        return self._queue.enter("worker", slots=self._executor.slots)

    def _ending(self, trials: list[FrozenTrial], concluded: bool) -> Ending | None:
        """Who leads, and whether there is an end."""
        leaders = [trial for trial in trials if trial.user_attrs[KIND] == "leader"]
        before, now = self._leader, self._clock()
        self._leader = leaders[-1] if leaders and leaders[-1].state == TrialState.RUNNING else None
        if self._leader is not None:
            self._led = now
            if before is None or before.number != self._leader.number:
                self._say(f"working for the run on {self._leader.user_attrs[HOST]}")
            return None
        if (before is not None and leaders[-1].state == TrialState.COMPLETE) or (before is None and concluded):
            return "concluded"
        if before is not None:
            self._say(f"the run that led the study has ended; waiting {LEADER_SECONDS / 60:.0f} min for another")
        return "alone" if now - self._led > LEADER_SECONDS else None

    def _follow_answers(self, trials: dict[int, FrozenTrial]) -> None:
        """Pass answers on, and stop what the leader wants no more."""
        for taken in list(self._taken.values()):
            trial = trials[id_of(taken.trial)]
            taken.cancelled = taken.cancelled or trial.state.is_finished()
            found = trial.user_attrs.get(f"answer/{taken.told - 1:02d}")
            answer: Answer | None = "stop" if taken.cancelled else found
            if taken.waits and answer is not None:
                taken.waits = False
                self._executor.answer(taken.spec, answer)

    def _take(self, trials: list[FrozenTrial], own: FrozenTrial) -> None:
        if self._leader is None:
            return
        mine = (None, own.number)
        waiting = [
            trial
            for trial in trials
            if trial.state == TrialState.WAITING
            and trial.user_attrs[KIND] == "training"
            and trial.user_attrs[SESSION] == self._leader.number
            and trial.user_attrs[ONLY_FOR] in mine
            and _key(trial) not in self._taken  # one that was called back may still be on its way to its end
        ]
        while waiting and self._executor.free():
            trial = self._queue.take(waiting, own)
            if trial is None:
                return
            waiting = waiting[waiting.index(trial) + 1 :]
            spec = TrialSpec.model_validate(trial.user_attrs[SPEC])
            self._taken[_key(trial)] = _Taken(trial, spec)
            self._executor.submit(spec)

    def _poll(self) -> list[TrainingEvent]:
        trains = any(not taken.waits for taken in self._taken.values())
        # Though nothing is trained: its workers may become ready.
        return self._executor.poll(POLL_SECONDS if trains or self._leader is not None else IDLE_SECONDS)

    def _tell(self, event: TrainingEvent) -> None:
        """Pass an event on to the leader."""
        key = (event.spec.purpose, event.spec.number)
        taken = self._taken[key]
        trial_id = id_of(taken.trial)
        if isinstance(event, Evaluated):
            found = {"evaluation": event.evaluation.model_dump(mode="json"), "last": event.last}
            self._queue.write(trial_id, f"evaluation/{taken.told:02d}", found)
            taken.told += 1
            taken.waits = not event.last
            return
        del self._taken[key]
        if taken.cancelled:
            return
        if isinstance(event, OutOfMemory | WorkerLost):
            if isinstance(event, OutOfMemory):
                self._queue.write(trial_id, OUT_OF_MEMORY, True)
            self._queue.write(trial_id, REASON, f"{event.reason} (on {self._queue.host})")
            self._queue.finish(taken.trial, TrialState.FAIL)
            return
        self._queue.write(trial_id, RESULT, event.result.model_dump(mode="json"))
        self._queue.finish(taken.trial, TrialState.PRUNED if isinstance(event, Paused) else TrialState.COMPLETE)
        self.finished += isinstance(event, Finished)

    def _give_back(self) -> None:
        """What is not finished goes to another."""
        for taken in self._taken.values():
            self._queue.write(id_of(taken.trial), "returned", True)
            self._queue.finish(taken.trial, TrialState.FAIL)
        self._taken.clear()
