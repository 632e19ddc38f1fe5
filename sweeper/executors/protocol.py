"""Where trainings run: a backend is asked what it offers, then opened; the executor that it gives trains.

`poll` returns events (`sweeper.core.events`); after each `Evaluated` that is not the training's last, `answer` must
say what becomes of it. A training that was told to pause is begun again, in any worker, by submitting the same spec
once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sweeper.core.events import Answer, Hardware, Layout, TrainingEvent
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, TrialSpec


class Executor(Protocol):
    """Trains specs under the conditions that its backend was opened with."""

    @property
    def workers(self) -> int:
        """How many trainings run at a time."""

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


class Backend(Protocol):
    """A place where trainings can run, before anybody knows which."""

    def hardware(self) -> Hardware:
        """What the machine offers.

        Raises:
            SweeperError: if no worker can be started, or the device is not there.
        """

    def has_weights(self, encoder: str) -> bool:
        """Whether ImageNet weights of the encoder lie in the local cache."""

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """How its trainings may share the machine, the usual way first; one where that was asked for, or on a GPU."""

    def use(self, layout: Layout) -> None:
        """Open with this one of `layouts`; without it the first is used."""

    def step_seconds(
        self, conditions: Conditions, precisions: Sequence[Precision], layout: Layout
    ) -> dict[Precision, float]:
        """Seconds that a training step takes on a CPU in each precision, while all workers of the layout train.

        Before `open`; {} where it cannot be measured.
        """

    def open(self, conditions: Conditions, checkpoints: Path) -> Executor:
        """Make ready for trainings under these conditions. Called once; the executor is closed with the backend.

        Args:
            conditions: the study's.
            checkpoints: folder of the paused trainings; made when it is needed.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    def close(self) -> None:
        """End everything, an executor that was opened included. Safe to call twice."""


def compile_seconds(conditions: Conditions) -> float:
    """The most that a worker may take to compile the network; on a slow processor a large one takes many minutes."""
    return 1800.0 if conditions.recipe.compiled else 0.0
