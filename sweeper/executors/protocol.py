"""Where trainings run: what every executor offers, and the events that it tells.

`poll` returns events (`sweeper.core.events`); after each `Evaluated` that is not the training's last, `answer` must
say what becomes of it. A training that was told to pause is begun again, in any worker, by submitting the same spec
once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sweeper.core.events import Answer, Hardware, TrainingEvent
from sweeper.core.records import Conditions, TrialSpec


class Executor(Protocol):
    """A place where trainings run."""

    def hardware(self) -> Hardware:
        """What the machine offers; called once, first."""

    def has_weights(self, encoder: str) -> bool:
        """Whether ImageNet weights of the encoder lie in the local cache; may be called second."""

    def configure(self, conditions: Conditions, checkpoints: Path) -> None:
        """Make ready for trainings under these conditions; called once, before the first of them.

        Args:
            conditions: the study's.
            checkpoints: folder of the paused trainings; made when it is needed.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    @property
    def workers(self) -> int:
        """How many trainings run at a time; known once `hardware` was asked."""

    def free(self) -> int:
        """How many more trainings can be submitted now.

        Raises:
            ExecutorError: if none can be any more.
        """

    def submit(self, spec: TrialSpec) -> None:
        """Start a training, or go on with a paused one. Only when `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """Events since the last call, waiting for the first at most this long.

        To be called although nothing is trained: workers that became ready, or were lost, are seen here.
        """

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """What becomes of a training that reported; nothing where that one is gone."""

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""
