"""The trainings of one process, in slots: what a worker drives, and the scheduler never sees.

An engine holds a number of trainings at a time. Each is begun in a free slot, goes on when it is answered, and frees
its slot with its last event; every event carries its spec. Trainings take turns step by step: one that waits for its
answer, ends or fails leaves the others as they are, and each gives what it gives alone, to the last digit. On a GPU
each has a stream of its own, so that the small kernels of several run at the same time.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from typing import Protocol

import torch

from sweeper.core.events import Answer, Evaluated, Finished, Paused, TrainingEvent
from sweeper.core.records import TrialSpec
from sweeper.training.job import Job, WorkerContext
from sweeper.training.stepwise import Stepwise


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
        """Take one training step, of the training whose turn it is; None where it has nothing to tell yet.

        What a training raises is told as its event. What ends the process's use between two trainings is raised.
        """

    def close(self) -> None:
        """Give up all trainings and their memory."""


class _Slot:
    """A training, and what it does at present."""

    def __init__(self, job: Job, stream: torch.cuda.Stream | None) -> None:
        self.job, self.stream = job, stream
        self.answer: Answer | None = "go"
        """To its last evaluation; None while it waits for one."""
        self._work: Stepwise[TrainingEvent] | None = None

    def step(self) -> TrainingEvent | None:
        """One step; what it has to tell."""
        assert self.answer is not None
        self._work = self._work or self.job.proceeding(self.answer)
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            try:
                next(self._work)
            except StopIteration as end:
                self._work = None
                event: TrainingEvent = end.value
                return event
        return None

    def free(self) -> None:
        """Give its memory back."""
        self._work = None
        self.job.free()


def own_stream(device: str) -> torch.cuda.Stream:
    """A stream of the device on which all that was begun before is done first."""
    stream = torch.cuda.Stream(torch.device(device))  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(torch.device(device)))
    return stream


class SlotEngine:
    """Trainings that take turns, one step each."""

    def __init__(self, context: WorkerContext, slots: int = 1) -> None:
        """`context`: what the trainings of this process share. `slots` ≥ 1."""
        self._context, self._slots = context, slots
        self._taken: deque[_Slot] = deque()
        """The one whose turn it is first."""
        several = slots > 1 and torch.device(context.device).type == "cuda"
        self._streams = [own_stream(context.device) if several else None for _ in range(slots)]
        """Of the free slots: torch has no more than 32, and hands them out again."""

    @property
    def slots(self) -> int:
        """As given."""
        return self._slots

    def free(self) -> int:
        """See `Engine`."""
        return self._slots - len(self._taken)

    def begin(self, spec: TrialSpec) -> None:
        """See `Engine`; the network is built with the first step."""
        if not self.free() or any(slot.job.spec == spec for slot in self._taken):
            raise RuntimeError(
                f"{spec.purpose} {spec.number} needs a free slot, and to be in none; free: {self.free()}"
            )
        self._taken.append(_Slot(Job(spec, self._context), self._streams.pop()))

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
        if slot is None:
            return None
        self._taken.remove(slot)
        self._taken.append(slot)
        event = slot.step()
        if slot.stream is not None and isinstance(event, Finished | Paused):
            # On streams of their own the steps of all run at once: nobody knows whose time a wait was.
            event = replace(event, result=event.result.model_copy(update={"seconds_per_step": None}))
        if isinstance(event, Evaluated):
            slot.answer = "go" if event.last else None
        elif event is not None:
            self._taken.remove(slot)
            self._streams.append(slot.stream)
            slot.free()  # the networks, before the next ones are made
        return event

    def close(self) -> None:
        """See `Engine`."""
        while self._taken:
            slot = self._taken.pop()
            self._streams.append(slot.stream)
            slot.free()
        self._context.idle.clear()
