"""Where trainings run: a backend is asked what it offers, then opened; the executor that it gives trains.

There is no dialogue (`sweeper.core.events`): each job that is submitted is answered once, by `poll`. A training goes on
with the next job for it, in any worker, and a job whose worker was lost can be submitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sweeper.core.events import Answer, Hardware, Job, Layout
from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions
from sweeper.executors.watchdog import Stage


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

    def submit(self, job: Job) -> None:
        """Have a job done. Only when `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[Answer]:
        """Answers since the last call, waiting for the first at most this long.

        To be called although nothing is trained: workers that became ready, or were lost, are seen here.
        """

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""


class Backend(Protocol):
    """A place where trainings can run, before anybody knows which."""

    def hardware(self) -> Hardware:
        """What the machine offers.

        Raises:
            SweeperError: if no worker can be started, or the device is not there.
        """

    @property
    def layout(self) -> Layout:
        """How its trainings share the machine."""

    def step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Seconds that a training step takes on a CPU in each precision, while all workers train.

        Before `open`; {} where it cannot be measured.
        """

    def open(self, conditions: Conditions, checkpoints: Path) -> Executor:
        """Make ready for trainings under these conditions. Called once; the executor is closed with the backend.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    def close(self) -> None:
        """End everything, an executor that was opened included. Safe to call twice."""


def compile_seconds(conditions: Conditions) -> float:
    """The most that a worker may take to compile the network; on a slow processor a large one takes many minutes."""
    return 1800.0 if conditions.recipe.compiled else 0.0


def stage_of(job: Job, recipe: Recipe) -> Stage:
    """What is waited for: the last rung, after which a confirmation is scored on the test split, or one before it."""
    return "last" if job.until > (0, *recipe.rungs(job.spec.steps))[-2] else "rung"
