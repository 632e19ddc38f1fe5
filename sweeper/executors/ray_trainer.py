"""What runs in a Ray actor: one training at a time. Torch is imported here alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ray

from sweeper.core.errors import SweeperError
from sweeper.core.events import Answer, Hardware, Job
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions


class Trainer:
    """A worker that Ray places."""

    def hardware(self, device: str) -> Hardware:
        """What this node offers."""
        from sweeper.training.hardware import probe

        return probe(device)

    def step_seconds(
        self, conditions: Conditions, precisions: Sequence[Precision], threads: int
    ) -> dict[Precision, float]:
        """Of a training step on this node's processors."""
        from sweeper.data.variants import store_here
        from sweeper.training.step_times import step_seconds

        dataset = conditions.dataset.model_copy(update={"store": str(store_here(conditions.dataset))})
        return step_seconds(conditions.model_copy(update={"dataset": dataset}), precisions, threads)

    def configure(
        self, conditions: Conditions, device: str, threads: int, checkpoints: Path, expected: str
    ) -> tuple[str, str | None]:
        """Make ready; the node's id, and why it refuses, if it does."""
        from sweeper.data.store import open_store
        from sweeper.data.variants import store_here
        from sweeper.training.compiled_network import compile_first, leave_no_traces
        from sweeper.training.hardware import probe, settle_numerics, settle_process
        from sweeper.training.job import Trainings, leave_to_the_end, worker_context
        from sweeper.training.worker import check_model

        node = ray.get_runtime_context().get_node_id()
        try:
            own = probe(device)
            if own.device != "cpu" and own.precision != expected:  # a CPU computes in the study's, whichever that is
                refusal = f"a node computes in {own.precision}, the study in {expected}; use nodes of one kind"
                return node, refusal
            settle_process(threads)
            settle_numerics(conditions.recipe.deterministic)
            check_model(conditions)
            store = open_store(str(store_here(conditions.dataset)))
            context = worker_context(conditions, store, device, checkpoints)
            if conditions.recipe.compiled:
                leave_no_traces()
                compile_first(context)
            self._trainings = Trainings(context)
            leave_to_the_end()
        except SweeperError as error:
            return node, str(error)
        return node, None

    def advance(self, job: Job) -> Answer:
        """Do a job."""
        return self._trainings.advance(job)

    def keep(self) -> None:
        """Write the training that is in memory to its checkpoint."""
        self._trainings.keep()
