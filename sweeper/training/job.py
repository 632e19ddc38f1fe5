"""One training as an executor sees it: it goes from one thing to tell to the next, and never raises.

What ends a training is its own fault (a failed result), or its process's: memory ran out, or the device is lost. That
is told apart wherever it is raised: while the network is built, a checkpoint is read, or an evaluation is made.

A job that was paused goes on from its checkpoint, in whichever process it is begun again. Where that cannot be read it
is trained from its start once more: a spec determines the result, so that the same evaluations are told again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sweeper.core.errors import CheckpointError
from sweeper.core.events import Answer, Evaluated, Finished, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.paths import checkpoint_path, weights_beside, weights_path
from sweeper.core.records import Collapse, Conditions, Evaluation, TrialResult, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.system.clocks import running_seconds
from sweeper.training.engine import Training
from sweeper.training.failure_causes import device_lost, explain, not_its_own, out_of_memory
from sweeper.training.graph_steps import cannot_record, why_not
from sweeper.training.initial_networks import Starts
from sweeper.training.resident_store import ResidentStore, resident
from sweeper.version import versions


@dataclass(frozen=True)
class WorkerContext:
    """What the trainings of one process share."""

    conditions: Conditions
    store: PixelStore
    device: str
    checkpoints: Path
    """Folder of the paused trainings."""
    starts: Starts = field(default_factory=Starts)
    resident: ResidentStore | None = None
    """The store's pixels on the device, if they are there."""


def worker_context(conditions: Conditions, store: PixelStore, device: str, checkpoints: Path) -> WorkerContext:
    """What the trainings of a process share, with the pixels on its GPU where they fit.

    Raises:
        UsageError: if the recipe insists on recorded steps, and this device cannot record any.
    """
    place = torch.device(device)
    if conditions.recipe.engine == "graph" and (reason := why_not(place)) is not None:
        raise cannot_record(reason)
    return WorkerContext(conditions, store, device, checkpoints, resident=resident(store, place))


class Job:
    """A training in this process."""

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        self.spec, self._context = spec, context
        self._path = checkpoint_path(context.checkpoints, spec)
        self._training: Training | None = None
        self._seen: list[Evaluation] = []
        self._note = ""
        self._began = running_seconds()

    def proceed(self, answer: Answer = "go") -> TrainingEvent:
        """Do what is answered to the last `Evaluated`, up to the next thing to tell; not after an end."""
        try:
            training = self._training = self._training or self._begin()
            if answer == "stop":
                return Finished(self.spec, training.result("pruned"))
            if answer == "pause":
                result = training.result("pruned")
                _try(lambda: training.save(self._path))  # without it: should it go on, it is trained from its start
                return Paused(self.spec, result)
            if training.finished:
                result = training.result("complete")
                if self.spec.keep_predictions and not self.spec.fold and result.collapse != Collapse.DIVERGED:
                    path = weights_path(weights_beside(self._context.checkpoints), self.spec)
                    _try(lambda: training.save_weights(path))  # the result is what matters
                return Finished(self.spec, result)
            self._seen.append(training.advance())
            note, self._note = self._note, ""
            return Evaluated(self.spec, self._seen[-1], training.finished, note)
        except Exception as error:
            return self._ended_by(error)

    def free(self) -> None:
        """Give the networks' memory back."""
        self._training = None
        gc.collect()

    def _ended_by(self, error: Exception) -> TrainingEvent:
        self._training = None  # nobody knows what state it is in
        if out_of_memory(error):
            return OutOfMemory(self.spec, explain(error))
        if device_lost(error):
            return WorkerLost(self.spec, explain(error))
        seconds = running_seconds() - self._began
        result = failed(self.spec, tuple(self._seen), explain(error), seconds, self._context.device)
        return Finished(self.spec, result)

    def _begin(self) -> Training:
        work = self._context
        given = (self.spec, work.conditions, work.store, work.device)
        shared: dict[str, Any] = {"starts": work.starts, "resident": work.resident}
        if self._path.exists():
            try:
                return Training(*given, checkpoint=self._path, **shared)
            except CheckpointError as error:
                self._path.unlink(missing_ok=True)
                told = " ".join(str(error).split())[:300]
                self._note = f"{told}; the training begins anew, and gives the same numbers"
        return Training(*given, **shared)


def leave_to_the_end() -> None:
    """Let the searches for garbage after each training skip what is there now.

    What the libraries made is alive until the process ends, and searching it takes 0.15 to 0.5 s. What was skipped
    before is searched once, so that several sweeps in one process leave nothing behind.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _try(write: Callable[[], None]) -> None:
    """Write a file beside a result that is there already; a full disk or want of memory does not cost that result."""
    try:
        write()
    except Exception as error:
        if not isinstance(error, OSError | SafetensorError) and not not_its_own(error):
            raise


def failed(
    spec: TrialSpec, evaluations: tuple[Evaluation, ...], reason: str, seconds: float, device: str
) -> TrialResult:
    """Result of a training that raised: its reason, and what was seen before."""
    return TrialResult(
        spec=spec,
        state="failed",
        value=None,
        evaluations=evaluations,
        collapse=Collapse.NONE,
        collapse_at_default=Collapse.NONE,
        reason=reason,
        seconds=seconds,
        seconds_per_step=None,
        device=device,
        versions=dict(versions()),
    )
