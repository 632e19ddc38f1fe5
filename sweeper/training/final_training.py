"""The recommended configuration trained to the end, on more images than the search trained on.

    training = FinalTraining(spec, conditions, store, device, images=…)
    while training.step < spec.steps:
        training.advance(…)              # as many steps as are asked for
        training.save(path)              # at any step; FinalTraining(…, checkpoint=path) goes on, bit for bit
    training.score(images, point)
    training.save_weights(path, point, on="train+val")

Batches, crops, augmentation, schedule and the average of the weights are those of every training of a study: the recipe
is the study's, with other steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from sweeper.core import metrics
from sweeper.core.calibration import Calibration, ClassCalibration
from sweeper.core.records import Collapse, Conditions, HeldOut, ImageCounts, Scores, TrainedOn, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.training.checkpoint import Checkpoint, key_of, load_checkpoint, save_checkpoint
from sweeper.training.collapse import judge
from sweeper.training.evaluation import Evaluator, log_prior_of
from sweeper.training.graph_steps import steps_kind
from sweeper.training.hardware import device_name
from sweeper.training.initial_networks import Starts
from sweeper.training.resident_store import resident
from sweeper.training.write_weights import save_weights, weights_record
from sweeper.version import versions


class Scored(NamedTuple):
    """What a network reads on some images."""

    point: float
    scores: Scores
    collapse: Collapse
    counts: ImageCounts


def read_at(counts: ImageCounts, point: float) -> Scored:
    """What counts give at the operating point nearest to `point`."""
    nearest = min(counts.points, key=lambda known: abs(known - point))
    found = metrics.at_point(counts, nearest)
    return Scored(nearest, metrics.scores(found), judge(found), counts)


class FinalTraining:
    """A training in progress whose images are given, and which is scored when it is asked to be."""

    def __init__(
        self,
        spec: TrialSpec,
        conditions: Conditions,
        store: PixelStore,
        place: str,
        *,
        images: tuple[int, ...],
        checkpoint: Path | None = None,
    ) -> None:
        """Begin, or go on from a checkpoint.

        Args:
            spec: what is trained; its purpose is `final`.
            conditions: the study's, for this device.
            store: the decoded pixels.
            place: device, as torch names it.
            images: indices of the images that are trained on.
            checkpoint: of this training, by `save`.

        Raises:
            CheckpointError: if the checkpoint cannot be read, or is another training's.
        """
        self._spec, self._conditions, self._store = spec, conditions, store
        device = self._device = torch.device(place)
        dataset, recipe = conditions.dataset, conditions.recipe
        pixels = resident(store, device)
        kind = steps_kind(recipe.engine, device)
        self._steps = kind(spec, conditions, store, images, device=device, starts=Starts(), resident=pixels)
        self._log_prior = log_prior_of(dataset.class_pixels(images))
        self._evaluator = Evaluator(
            store,
            task=dataset.task,
            classes=len(dataset.classes),
            stride=recipe.stride,
            device=device,
            normal=self._steps.normal,
            autocast=self._steps.autocast,
            metric=conditions.recipe.metric,
            boundary_pixels=conditions.recipe.boundary_pixels,
            log_prior=self._log_prior,
            resident=pixels,
        )
        self.step = 0
        """Steps that were taken."""
        if checkpoint is not None:
            self._restore(checkpoint)

    def advance(self, steps: int) -> float:
        """Take at most so many steps, and none beyond the last; their mean loss, which may be NaN or infinite."""
        target = min(self._spec.steps, self.step + max(1, steps))
        loss, _ = self._steps.run(self.step, target)
        self.step = target
        return loss

    def score(self, images: tuple[int, ...], point: float | None) -> Scored | None:
        """Scores of the averaged network on whole images.

        Args:
            images: indices into the data set, at least one.
            point: operating point, taken to the nearest of those that are counted; None = the best on these images.

        Returns:
            None where the network's answer is not finite.
        """
        counts, finite = self._evaluator.count(self._steps.average.model, images)
        if not finite:
            return None
        if point is None:
            groups = self._conditions.dataset.groups_of(counts.images)
            point = metrics.best_point(counts, self._conditions.recipe.metric, groups)[0]
        return read_at(counts, point)

    def calibration(self, scored: Scored) -> Calibration | ClassCalibration | None:
        """Fitted on the images that were scored; None where no pixel of them has a label."""
        return self._evaluator.calibration(self._steps.average.model, scored.counts)

    @property
    def finite(self) -> bool:
        """Whether all averaged weights are finite numbers."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self._steps.average.model.parameters())

    @property
    def device_name(self) -> str:
        """For people."""
        return device_name(self._device)

    def save(self, path: Path) -> None:
        """Write what a training that goes on from here needs.

        Raises:
            OSError: if the file cannot be written; one that was there before is left as it was.
        """
        state = Checkpoint(
            conditions=key_of(self._conditions),
            spec=self._spec,
            step=self.step,
            evaluations=(),
            seconds=0.0,
            training_seconds=0.0,
            averaged=self._steps.average.updates,
            device=self.device_name,
            versions=dict(versions()),
        )
        save_checkpoint(path, state, self._steps.state())

    def save_weights(
        self,
        path: Path,
        point: float,
        on: TrainedOn,
        collapse: Collapse = Collapse.NONE,
        calibration: Calibration | ClassCalibration | None = None,
        *,
        held_out: HeldOut | None = None,
    ) -> None:
        """Write the averaged network with the record that rebuilds it, and what it answers on images left out.

        Raises:
            OSError, SafetensorError: if the file cannot be written.
        """
        record = weights_record(
            self._spec,
            self._conditions,
            self._store,
            normal=self._steps.normal,
            log_prior=self._log_prior,
            point=point,
            on=on,
            collapse=collapse,
            calibration=calibration,
        ).model_copy(update={"held_out": held_out})
        save_weights(path, self._steps.average.model, record)

    def _restore(self, path: Path) -> None:
        state, tensors = load_checkpoint(path, self._spec, self._conditions, self._device)
        self._steps.restore(tensors, state.averaged)
        self.step = state.step
