"""Final training of the recommended configuration, on more images than in the search.

    training = FinalTraining(spec, open_context(conditions, device), images)
    while training.step < spec.steps:
        training.advance(…)              # at most this many steps
        training.save(path)              # at any step; FinalTraining(…, checkpoint=path) resumes bit for bit
    training.score(images, point)
    training.save_network(path, point, "train+val")

The recipe is the study's with another number of steps, so batches, crops, augmentation, schedule and weight average are
the same as in the study's trainings.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from sweeper.core import metrics, point_choice
from sweeper.core.records import Collapse, MetricScores, TrialSpec
from sweeper.training.network_in_training import NetworkInTraining
from sweeper.training.scores import judge_collapse
from sweeper.training.training_context import TrainingContext


class FinalScores(NamedTuple):
    """Scores of a network on some images."""

    point: float
    scores: MetricScores
    collapse: Collapse


class FinalTraining(NetworkInTraining):
    """A training in progress on given images, scored only on request."""

    def __init__(
        self, spec: TrialSpec, context: TrainingContext, images: tuple[int, ...], *, checkpoint: Path | None = None
    ) -> None:
        """Begin, or continue from a checkpoint.

        Args:
            spec: the training's spec, with purpose `final`.
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

    def score_images(self, images: tuple[int, ...], point: float | None) -> FinalScores | None:
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
        nearest = min(counts.points, key=lambda candidate: abs(candidate - point))
        class_counts = metrics.count_at_point(counts, nearest)
        return FinalScores(nearest, metrics.compute_scores(class_counts), judge_collapse(class_counts))

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
