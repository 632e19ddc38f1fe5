"""Where trainings run: one interface, and the simplest place: this very process (for debugging and tests).

`poll` returns events; after each `Reported` that is not the training's last, `answer` must say whether it goes on.
`sweeper.study.processes` has the place that sweeps use.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sweeper.records import Conditions, Evaluation, TrialResult, TrialSpec

if TYPE_CHECKING:
    from sweeper.training.engine import Training
    from sweeper.training.hardware import Hardware


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Reported:
    """A training looked at its validation pictures; `last` when it has nothing more to ask."""

    spec: TrialSpec
    evaluation: Evaluation
    last: bool


@dataclass(frozen=True)
class Finished:
    """A training gave its result (failed ones included)."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Died:
    """The worker died under the training; nothing is known of it but the reason."""

    spec: TrialSpec
    reason: str


Event = Reported | Finished | Died


class Executor(Protocol):
    """A place where trainings run."""

    def hardware(self) -> Hardware:
        """What the machine offers; called once, first."""

    def has_weights(self, encoder: str) -> bool:
        """Whether ImageNet weights of the encoder lie in the local cache; may be called second."""

    def configure(self, conditions: Conditions) -> None:
        """Make ready for trainings under these conditions; called once, before the first of them.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    @property
    def workers(self) -> int:
        """How many trainings run at a time; known once `hardware` was asked."""

    def free(self) -> int:
        """How many more trainings can be submitted now."""

    def submit(self, spec: TrialSpec) -> None:
        """Start a training. Only when `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Events since the last call, waiting for the first at most this long."""

    def answer(self, spec: TrialSpec, go_on: bool) -> None:
        """Whether a training that reported goes on."""

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""


class InlineExecutor:
    """Trains in this process, one training at a time; an exception in a training is a failed result."""

    def __init__(self, device: str) -> None:
        self._asked = device
        self._training: Training | None = None
        self._spec: TrialSpec | None = None
        self._seen: list[Evaluation] = []
        self._stopped = False
        self._waiting = False
        self._began = 0.0

    def hardware(self) -> Hardware:
        """Probe this process's device."""
        from sweeper.training.hardware import probe

        self._hardware = probe(self._asked)
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """Look into the local cache."""
        from sweeper.training.model import imagenet_cached

        return imagenet_cached(encoder)

    def configure(self, conditions: Conditions) -> None:
        """Open the store and build the network once."""
        from sweeper.data.store import open_store
        from sweeper.training.worker import check_model

        check_model(conditions)
        self._conditions = conditions
        self._store = open_store(conditions.dataset.store)

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def free(self) -> int:
        """One when idle."""
        return 0 if self._spec else 1

    def submit(self, spec: TrialSpec) -> None:
        """Take the training; it is begun at the next poll."""
        self._spec, self._training, self._seen = spec, None, []
        self._stopped = self._waiting = False
        self._began = time.perf_counter()

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Train to the next evaluation, or to the result; nothing where there is no time."""
        from sweeper.training.engine import Training
        from sweeper.training.worker import explain, failed

        spec = self._spec
        if spec is None or self._waiting or timeout_seconds == 0:
            return []
        try:
            if self._training is None:
                self._training = Training(spec, self._conditions, self._store, self._hardware.device)
            if self._training.finished or self._stopped:
                result = self._training.result("pruned" if self._stopped else "complete")
            else:
                evaluation = self._training.advance()
                self._seen.append(evaluation)
                self._waiting = not self._training.finished
                return [Reported(spec, evaluation, last=self._training.finished)]
        except Exception as error:
            seconds = time.perf_counter() - self._began
            result = failed(spec, tuple(self._seen), explain(error), seconds, self._hardware.device)
        self._spec = self._training = None
        return [Finished(spec, result)]

    def answer(self, spec: TrialSpec, go_on: bool) -> None:
        """Let the one training go on, or stop it."""
        self._stopped, self._waiting = not go_on, False

    def close(self) -> None:
        """Forget the training."""
        self._spec = self._training = None
