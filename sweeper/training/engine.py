"""One training behind a small interface: create it, advance it to each evaluation, make its result.

    training = StudyTraining(spec, open_context(conditions, device))
    while not training.finished:
        evaluation = training.advance()      # trains to the next rung and evaluates
    result = training.result("complete")     # or "pruned", at any rung
    training.save(path)                      # at a rung: pause; StudyTraining(…, checkpoint=path) resumes bit for bit

Conditions and TrialSpec determine the result on a given processor and number of threads. The global random state stays
unchanged: it is forked before use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from sweeper.core import metrics
from sweeper.core.records import Evaluation, ImageCounts, PartScores, TrainedBy, TrialResult, TrialSpec
from sweeper.data.folds import get_split, list_scored_by_seed
from sweeper.data.split import select_scored_images
from sweeper.system.clocks import get_running_seconds
from sweeper.training.network_in_training import Checkpoint, NetworkInTraining
from sweeper.training.scores import judge_end, score_counts
from sweeper.training.training_context import TrainingContext
from sweeper.version import read_versions

RUNG_COST = 0.03
"""Largest share of a training's work that one rung may take."""
RUNG_IMAGES = 8
"""Least number of images that a rung evaluates, however small the budget."""


class StudyTraining(NetworkInTraining):
    """A training of a study in progress."""

    def __init__(
        self,
        spec: TrialSpec,
        context: TrainingContext,
        *,
        checkpoint: Path | None = None,
        clock: Callable[[], float] = get_running_seconds,
    ) -> None:
        """Begin a training, or continue a saved one.

        Args:
            spec: the training's spec.
            context: shared by the trainings of this process.
            checkpoint: file written by `save` of this training.
            clock: used only for the durations in the result; it does not count while this process is stopped.

        Raises:
            CheckpointError: if the checkpoint cannot be read, or belongs to another training.
        """
        self._clock, self._started = clock, clock()
        """`_started` is shifted by all pauses."""
        self._split = get_split(context.conditions, spec.seed, spec.fold)
        super().__init__(spec, context, self._split.train)
        self._recipe, self._dataset = self._conditions.recipe, self._conditions.dataset
        self._rungs = self._recipe.rungs(spec.steps)
        work = spec.steps * self._recipe.batch_size * self._recipe.size**2
        self._val = select_scored_images(self._dataset, self._split.val, work)
        self._rung_images = select_scored_images(self._dataset, self._val, work, RUNG_COST, RUNG_IMAGES)
        self.step = 0
        """The last evaluated rung; 0 before the first."""
        self.evaluations: tuple[Evaluation, ...] = ()
        """Evaluations so far."""
        self._last_counts: ImageCounts | None = None
        """Counts of the last evaluation."""
        self._has_diverged, self._training_seconds = False, 0.0
        self._earlier: tuple[TrainedBy, ...] = ()
        """Device and versions of earlier steps, if different."""
        if checkpoint is not None:
            self._restore_progress(self._restore(checkpoint))
        self._left = clock()
        """Clock at the end of the last call."""

    def save(self, path: Path) -> None:
        """Write a checkpoint from which to continue; call it only after `advance`.

        Raises:
            OSError: if the file cannot be written; an existing file stays unchanged.
        """
        self._save(
            path,
            self.step,
            evaluations=self.evaluations,
            seconds=self._left - self._started,
            training_seconds=self._training_seconds,
            earlier=self._earlier,
        )

    def save_weights(self, path: Path) -> None:
        """Write the averaged network of the last evaluation.

        Raises:
            OSError, SafetensorError: if the file cannot be written.
        """
        self.save_network(path, self.evaluations[-1].point)

    def _restore_progress(self, state: Checkpoint) -> None:
        self.step, self.evaluations = state.step, state.evaluations
        self._training_seconds = state.training_seconds
        self._started -= state.seconds
        self._earlier = state.earlier
        if (state.device, state.versions) != (self.device_name, read_versions()):
            now = TrainedBy(device=state.device, versions=state.versions, step=state.step)
            self._earlier = (*state.earlier, now)

    @property
    def elapsed_seconds(self) -> float:
        """Elapsed seconds, excluding pauses."""
        return self._clock() - self._started

    @property
    def graph_fallback_reason(self) -> str | None:
        """Reason why steps are not recorded although requested, else None."""
        return self._steps.why_plain

    @property
    def is_finished(self) -> bool:
        """Whether the last rung has been evaluated, or the training has diverged."""
        return self._has_diverged or self.step >= self._spec.steps

    def advance(self) -> Evaluation:
        """Train to the next rung and evaluate there on a part of the validation images, at the last rung on all."""
        self._restart_clock()
        target = next(rung for rung in self._rungs if rung > self.step)
        began = self._clock()
        loss, rate = self._steps.take_steps(self.step, target)
        self._training_seconds += self._clock() - began
        self.step = target
        images = self._val if target == self._rungs[-1] else self._rung_images
        counts, finite = self._evaluator.count(self._steps.average.model, images)
        self._has_diverged = not (finite and math.isfinite(loss))
        self._last_counts = counts
        part = None
        if len(images) > len(self._rung_images) and not self._has_diverged:
            part = self._score_images(metrics.select_images(counts, self._rung_images))
        evaluation = Evaluation(
            **dict(self._score_images(counts)),
            step=self.step,
            train_loss=loss if math.isfinite(loss) else None,
            lr=rate,
            val_images=len(self._val),
            part=part,
            seconds=self._clock() - self._started,
        )
        self.evaluations = (*self.evaluations, evaluation)
        self._left = self._clock()
        return evaluation

    def _restart_clock(self) -> None:
        """Exclude the time since the last call."""
        self._started += self._clock() - self._left

    def make_result(self, state: Literal["complete", "pruned"]) -> TrialResult:
        """Make the result so far; score a finished confirmation or final training on the test split."""
        self._restart_clock()
        last = self.evaluations[-1]
        if self._last_counts is None:  # a checkpoint has the evaluation without its counts
            self._last_counts = self._evaluator.count(self._steps.average.model, self._rung_images)[0]
        end = judge_end(self._last_counts, last.point, self._conditions, diverged=self._has_diverged)
        test, detail, predictions = None, None, None
        is_whole = state == "complete" and not self._has_diverged
        if self._spec.is_tested and is_whole:
            test, detail, predictions = self._evaluator.measure_test_images(
                self._steps.average.model,
                self._split.test,
                last.point,
                keep=self._spec.keep_predictions,
                labels=list_scored_by_seed(self._conditions),
            )
        self._left = self._clock()
        return TrialResult(
            spec=self._spec,
            state=state,
            value=last.value,
            evaluations=self.evaluations,
            **end._asdict(),
            val=self._count_validation(),
            test=test,
            detail=detail,
            predictions=predictions,
            seconds=self._left - self._started,
            seconds_per_step=self._training_seconds / self.step,
            device=self.device_name + (", recorded steps" if self._steps.is_recorded else ""),
            versions=read_versions(),
            earlier=self._earlier,
        )

    def _score_images(self, counts: ImageCounts) -> PartScores:
        return score_counts(counts, self._spec, self._conditions, diverged=self._has_diverged)

    def _count_validation(self) -> ImageCounts | None:
        """Return the counts of all validation images, per image only for a confirmation.

        None before the end, and for a training that diverged.
        """
        last = self._last_counts
        if last is None or not self.is_finished or self._has_diverged:
            return None
        return last if self._spec.is_tested else last.summed
