"""Base of a study's and a final training: a network and its steps, its evaluator, and its files."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from sweeper.core import metrics, point_choice
from sweeper.core.base import Record
from sweeper.core.errors import CheckpointError
from sweeper.core.records import (
    Collapse,
    Conditions,
    Evaluation,
    MetricScores,
    OperatingPoint,
    TrainedBy,
    TrainedOn,
    TrialSpec,
)
from sweeper.core.tasks import compute_log_shares, find_nearest, make_point
from sweeper.system.whole_files import replace_atomically
from sweeper.training.evaluation import Evaluator
from sweeper.training.failure_causes import is_process_fault
from sweeper.training.graph_steps import choose_steps_class
from sweeper.training.hardware import get_device_name
from sweeper.training.scores import judge_collapse
from sweeper.training.training_context import TrainingContext
from sweeper.training.weights_file import WeightsRecord, make_metadata, seal_file
from sweeper.version import read_versions


class NetworkInTraining:
    """A network that is trained on given images."""

    def __init__(self, spec: TrialSpec, context: TrainingContext, images: tuple[int, ...]) -> None:
        """Create the initial network; `images` are the indices of the training images."""
        context = context.adapt_to(spec)
        conditions = context.conditions
        self._spec, self._conditions, self._store, self._device = spec, conditions, context.store, context.device
        self._steps = choose_steps_class(conditions.recipe.engine, self._device)(spec, context, images)
        self._log_prior = compute_log_shares(conditions.dataset.count_class_pixels(images))
        self._evaluator = Evaluator(
            context, normal=self._steps.normal, autocast=self._steps.autocast, log_prior=self._log_prior
        )

    @property
    def device_name(self) -> str:
        """Display name of the device."""
        return get_device_name(self._device)

    def _save(self, path: Path, step: int, **progress: Any) -> None:
        """Write a checkpoint atomically.

        Seed and step determine the batches and all draws, so weights, their average, the optimiser's state and the
        numbers so far are the complete state.

        Raises:
            OSError: if it cannot be written.
        """
        state = Checkpoint(
            conditions=make_checkpoint_key(self._conditions),
            spec=self._spec,
            step=step,
            averaged=self._steps.average.updates,
            device=self.device_name,
            versions=read_versions(),
            **progress,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # torch's archive writer raises RuntimeError on a full disk.
            with replace_atomically(path) as part:
                torch.save({"checkpoint": state.model_dump_json(), **self._steps.get_state()}, part)
        except RuntimeError as error:
            raise OSError(f"the checkpoint {path} could not be written: {error}") from error

    def _restore(self, path: Path) -> Checkpoint:
        """Restore the network from a checkpoint, and return the checkpoint's numbers."""
        state, tensors = load_checkpoint(path, self._spec, self._conditions, self._device)
        self._steps.restore_state(tensors, state.averaged)
        return state

    def save_network(
        self, path: Path, point: OperatingPoint, on: TrainedOn = "train", collapse: Collapse = Collapse.NONE
    ) -> None:
        """Write the averaged network with the record that rebuilds it; see the record's fields for the arguments.

        Raises:
            OSError, SafetensorError: if the file cannot be written.
        """
        recipe, dataset = self._conditions.recipe, self._conditions.dataset
        mean, std = (tuple(tensor.flatten().tolist()) for tensor in self._steps.normal)
        record = WeightsRecord(
            spec=self._spec,
            digest=dataset.digest,
            model=recipe.model,
            arch=recipe.arch,
            encoder=recipe.encoder,
            encoder_depth=recipe.encoder_depth,
            decoder_channels=recipe.decoder_channels,
            channels=self._store.channels,
            task=dataset.task,
            classes=dataset.classes,
            full_scale=int(np.iinfo(self._store.dtype).max),
            mean=mean,
            std=std,
            point=point,
            log_prior=tuple(self._log_prior.tolist()),
            versions={"torch": torch.__version__},
            precision=recipe.precision,
            resized=dataset.resized,
            on=on,
            collapse=collapse,
        )
        save_weights(path, self._steps.average.model, record)


def save_weights(path: Path, model: nn.Module, record: WeightsRecord) -> None:
    """Write weights and BatchNorm statistics with a seal, atomically.

    Raises:
        OSError, SafetensorError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Copies: safetensors refuses tensors of a shared storage, and channels-last memory order.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with replace_atomically(path) as part:
        save_file(tensors, part, make_metadata(record))
        seal_file(part)


# --- Files of paused trainings: tensors and numbers only, no code that loading could run ---


class Checkpoint(Record):
    """Paused training without its tensors."""

    conditions: str
    """`make_checkpoint_key` of the training's conditions."""
    spec: TrialSpec
    step: int
    evaluations: tuple[Evaluation, ...]
    seconds: float
    """Elapsed seconds since the start, without pauses."""
    training_seconds: float
    averaged: int
    """Number of updates of the weights' average."""
    device: str
    """Device of the last steps before the checkpoint, as in `TrialResult.device`."""
    versions: dict[str, str]
    earlier: tuple[TrainedBy, ...] = ()
    """Device and versions of the steps before those, if different."""


def make_checkpoint_key(conditions: Conditions) -> str:
    """Return a key of what a training depends on besides its spec: data, recipe, test split."""
    # Defaults are left out, so that a new field does not change the keys of older versions; a folder may have moved.
    # Eager and recorded steps differ only in rounding, and a worker may have to continue with the other engine.
    others: Any = {"engine": True, "model": {"folder"}, "own_metric": {"folder"}}
    recipe = conditions.recipe.model_dump_json(exclude_defaults=True, exclude=others)
    text = f"{conditions.dataset.digest} {recipe} {conditions.seed}"
    return hashlib.sha256(text.encode()).hexdigest()


def load_checkpoint(
    path: Path, spec: TrialSpec, conditions: Conditions, device: torch.device
) -> tuple[Checkpoint, dict[str, Any]]:
    """Read the checkpoint of this training.

    Raises:
        CheckpointError: if the file cannot be read, is damaged, or belongs to another training.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} in it is not what was written")
        tensors: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        checkpoint = Checkpoint.model_validate_json(tensors.pop("checkpoint"))
    except Exception as error:  # torch, pickle, zip and pydantic each raise their own
        if is_process_fault(error):  # the file may be intact, and readable for another process
            raise
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error
    if checkpoint.spec != spec or checkpoint.conditions != make_checkpoint_key(conditions):
        raise CheckpointError(f"the checkpoint {path} is of another training: {checkpoint.spec}, not {spec}")
    return checkpoint, tensors


class FinalScores(NamedTuple):
    """Scores of a network on some images."""

    point: OperatingPoint
    scores: MetricScores
    collapse: Collapse


class FinalTraining(NetworkInTraining):
    """A training in progress on given images, scored only on request."""

    def __init__(
        self, spec: TrialSpec, context: TrainingContext, images: tuple[int, ...], *, checkpoint: Path | None = None
    ) -> None:
        """Begin, or continue from a checkpoint.

        Args:
            spec: the training's spec, with purpose `train`.
            context: the study's conditions, for this device.
            images: indices of the training images.
            checkpoint: file written by `save` of this training.

        Raises:
            CheckpointError: if the checkpoint cannot be read, or belongs to another training.
        """
        super().__init__(spec, context, images)
        self.step = 0 if checkpoint is None else self._restore(checkpoint).step
        """Number of steps taken."""

    def advance(self, steps: int) -> float:
        """Take at most `steps` steps, none beyond the last; return their mean loss, which may be NaN or infinite."""
        target = min(self._spec.steps, self.step + max(1, steps))
        loss, _ = self._steps.take_steps(self.step, target)
        self.step = target
        return loss

    def score_images(self, images: tuple[int, ...], point: OperatingPoint | None) -> FinalScores | None:
        """Return the scores of the averaged network on whole images.

        Args:
            images: indices into the data set, at least one.
            point: operating point, rounded to the nearest counted one; None = choose it on these images.

        Returns:
            The scores; None if a logit is not finite.
        """
        counts, finite = self._evaluator.count(self._steps.average.model, images)
        if not finite:
            return None
        if point is None:
            groups = self._conditions.dataset.list_groups(counts.images)
            point = point_choice.choose_point(counts, self._conditions.recipe.metric, groups)
        nearest = make_point(find_nearest(np.asarray(counts.points), np.asarray(point)))
        scores = metrics.compute_scores(metrics.count_at_point(counts, nearest), self._conditions.dataset.task)
        return FinalScores(nearest, scores, judge_collapse(counts, nearest))

    @property
    def is_finite(self) -> bool:
        """Whether all averaged weights are finite numbers."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self._steps.average.model.parameters())

    def save(self, path: Path) -> None:
        """Write a checkpoint from which to continue.

        Raises:
            OSError: if the file cannot be written; an existing file stays unchanged.
        """
        self._save(path, self.step, evaluations=(), seconds=0.0, training_seconds=0.0)
