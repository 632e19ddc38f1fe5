"""The trainings of one process, in slots: what a worker drives, and the scheduler never sees.

An engine says how many trainings it holds at a time. Each is begun in a free slot, goes on when it is answered, and
frees its slot with its last event; every event carries its spec. The eager engine trains them in turn, one event each,
with one network in memory per slot. An engine that steps all its slots at once keeps the same protocol.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from sweeper.core.events import Answer, Evaluated, TrainingEvent
from sweeper.core.records import TrialSpec
from sweeper.training.job import Job, WorkerContext


class Engine(Protocol):
    """Trains the specs of one process."""

    @property
    def slots(self) -> int:
        """How many trainings it holds at a time, ≥ 1."""

    def free(self) -> int:
        """Slots without a training."""

    def begin(self, spec: TrialSpec) -> None:
        """Put a training into a free slot: from its checkpoint where it has one, else from its start.

        Raises:
            RuntimeError: if no slot is free, or the training is in one already.
        """

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """What becomes of a training that was evaluated; nothing where it is gone or waits for no answer."""

    def ready(self) -> bool:
        """Whether a training can go on now: one that waits for its answer cannot."""

    def advance(self) -> TrainingEvent | None:
        """Train until one training has something to tell; None where none can go on.

        What a training raises is told as its event. What ends the process's use between two trainings is raised.
        """

    def close(self) -> None:
        """Give up all trainings and their memory."""


@dataclass
class _Slot:
    job: Job
    answer: Answer | None = "go"
    """To its last evaluation; None while it waits for one."""


class EagerEngine:
    """Trainings one after the other, each to its next event, in turn."""

    def __init__(self, context: WorkerContext, slots: int = 1) -> None:
        """`context`: what the trainings of this process share. `slots` ≥ 1."""
        self._context, self._slots = context, slots
        self._taken: deque[_Slot] = deque()
        """The one whose turn it is first."""

    @property
    def slots(self) -> int:
        """As given."""
        return self._slots

    def free(self) -> int:
        """See `Engine`."""
        return self._slots - len(self._taken)

    def begin(self, spec: TrialSpec) -> None:
        """See `Engine`; the network is built with the first event."""
        if not self.free() or any(slot.job.spec == spec for slot in self._taken):
            raise RuntimeError(
                f"{spec.purpose} {spec.number} needs a free slot, and to be in none; free: {self.free()}"
            )
        self._taken.append(_Slot(Job(spec, self._context)))

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """See `Engine`."""
        for slot in self._taken:
            if slot.job.spec == spec and slot.answer is None:
                slot.answer = answer

    def ready(self) -> bool:
        """See `Engine`."""
        return any(slot.answer is not None for slot in self._taken)

    def advance(self) -> TrainingEvent | None:
        """See `Engine`."""
        slot = next((slot for slot in self._taken if slot.answer is not None), None)
        if slot is None or slot.answer is None:
            return None
        self._taken.remove(slot)
        event = slot.job.proceed(slot.answer)
        if isinstance(event, Evaluated):
            slot.answer = "go" if event.last else None
            self._taken.append(slot)
        else:
            slot.job.free()  # the networks, before the next ones are made
        return event

    def close(self) -> None:
        """See `Engine`."""
        while self._taken:
            self._taken.pop().job.free()
