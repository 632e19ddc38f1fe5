"""One training behind a small interface: make it, advance it evaluation by evaluation, take its result.

    training = Training(spec, conditions, store, device)
    while not training.finished:
        evaluation = training.advance()      # trains to the next rung and evaluates
    result = training.result("complete")     # or "pruned", at any rung
    training.save(path)                      # at a rung: pause it; Training(…, checkpoint=path) goes on, bit for bit

With the Conditions, a TrialSpec determines the result on a given processor and number of threads. Global random state
is only used inside a fork of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.core import metrics
from sweeper.core.recipe import Precision
from sweeper.core.records import (
    IGNORE,
    Collapse,
    Conditions,
    Evaluation,
    ImageCounts,
    PartScores,
    Predictions,
    TestDetail,
    TrainedBy,
    TrialResult,
    TrialSpec,
)
from sweeper.data.distance_maps import DistanceStore
from sweeper.data.folds import scored_images, split_of
from sweeper.data.split import stratified_subset
from sweeper.data.store import PixelStore
from sweeper.losses import FAMILIES, build_loss
from sweeper.system.clocks import running_seconds
from sweeper.training.augment import augment, augment_distances
from sweeper.training.batches import crops, distance_batch, to_inputs, training_batch
from sweeper.training.checkpoint import Checkpoint, key_of, load_checkpoint, save_checkpoint
from sweeper.training.collapse import judge, never_predicted
from sweeper.training.evaluation import Evaluator
from sweeper.training.initial_networks import Starts
from sweeper.training.model import WeightAverage, decoder_channels, normaliser
from sweeper.training.weights_file import WeightsRecord
from sweeper.training.write_weights import save_weights
from sweeper.version import versions

RUNG_COST = 0.03
"""Share of a trial's work that one rung may cost, counting a training pixel as three evaluated ones."""
RUNG_IMAGES = 8
"""A rung looks at no fewer images than this, however small the budget."""


def schedule(step: int, steps: int, warmup: float, decay: float) -> float:
    """Factor of the learning rate at `step` (from 0) of `steps`: linear rise, plateau, linear fall to 0."""
    rise = min(1.0, (step + 1) / max(1.0, warmup * steps))
    fall = min(1.0, (steps - step) / max(1.0, decay * steps))
    return min(rise, fall)


def _autocast(device_type: str, precision: Precision) -> AbstractContextManager[object]:
    return nullcontext() if precision == "float32" else torch.autocast(device_type, dtype=torch.bfloat16)


class Training:
    """A training in progress."""

    def __init__(
        self,
        spec: TrialSpec,
        conditions: Conditions,
        store: PixelStore,
        place: str,
        *,
        checkpoint: Path | None = None,
        starts: Starts | None = None,
        clock: Callable[[], float] = running_seconds,
    ) -> None:
        """Begin a training, or go on with one that was saved.

        Args:
            spec: what is trained.
            conditions: the study's.
            store: the decoded pixels.
            place: device, as torch names it.
            checkpoint: of this training, by `save`.
            starts: initial networks that this process has made already; None = makes its own.
            clock: for the durations in the result, and nothing else; stops of this process are left out.

        Raises:
            CheckpointError: if the checkpoint cannot be read, or is another training's.
        """
        self._spec, self._conditions = spec, conditions
        self._recipe, self._dataset = conditions.recipe, conditions.dataset
        device = torch.device(place)
        self._store, self._device, self._clock = store, device, clock
        self._started = clock()
        self._split = split_of(conditions, spec.seed, spec.fold)
        self._scored = scored_images(conditions)
        self._task = self._dataset.task
        recipe = self._recipe
        pixels = self._dataset.class_pixels(self._split.train)
        shares = np.maximum(pixels, 1) / np.maximum(pixels, 1).sum()
        # channels_last is what convolutions like on CPUs and tensor cores alike.
        model = (starts or Starts()).model(
            recipe, channels=store.channels, class_pixels=pixels, task=self._task, seed=spec.seed
        )
        self._model: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = WeightAverage(self._model, recipe.average * spec.steps)
        self._criterion = build_loss(
            spec.family,
            task=self._task,
            ignore_index=IGNORE,
            class_frequencies=[float(p) for p in pixels],
            **spec.params,
        ).to(device)
        self._distances: DistanceStore | None = None
        if FAMILIES[spec.family].needs_distance:
            labels = (1,) if self._task == "binary" else tuple(range(len(self._dataset.classes)))
            self._distances = DistanceStore(store, labels)
        fused = device.type in {"cpu", "cuda"}
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=spec.lr, weight_decay=recipe.weight_decay, fused=fused
        )
        mean, std = normaliser(store, self._split.train)
        self._normal = (mean.to(device), std.to(device))
        self._autocast = partial(_autocast, device.type, recipe.precision)
        self._evaluator = Evaluator(
            store,
            task=self._task,
            classes=len(self._dataset.classes),
            stride=recipe.stride,
            device=device,
            normal=self._normal,
            autocast=self._autocast,
            log_prior=np.log(shares),
        )
        self._log_prior = tuple(float(value) for value in np.log(shares))
        self._rungs = recipe.rungs(spec.steps)
        self._rung_images = stratified_subset(self._dataset, self._split.val, self._affordable())
        self._step = 0
        self._evaluations: list[Evaluation] = []
        self._last: ImageCounts | None = None
        self._diverged = False
        self._training_seconds = 0.0
        self._earlier: tuple[TrainedBy, ...] = ()
        if checkpoint is not None:
            self._restore(load_checkpoint(checkpoint, spec, conditions, device))

    def save(self, path: Path) -> None:
        """Write everything that a training which goes on from here needs; only right after `advance`.

        The batches and all draws are keyed by seed and step, so that weights, their average, the optimiser's state and
        the numbers so far are all there is.

        Raises:
            OSError: if the file cannot be written; one that was there before is left as it was.
        """
        state = Checkpoint(
            conditions=key_of(self._conditions),
            spec=self._spec,
            step=self._step,
            evaluations=tuple(self._evaluations),
            seconds=self._clock() - self._started,
            training_seconds=self._training_seconds,
            averaged=self._average.updates,
            device=self._device_name(),
            versions=dict(versions()),
            earlier=self._earlier,
        )
        tensors = {
            "model": self._model.state_dict(),
            "average": self._average.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        save_checkpoint(path, state, tensors)

    def save_weights(self, path: Path) -> None:
        """Keep the averaged network, as it was evaluated last.

        Raises:
            OSError, SafetensorError: if the file cannot be written.
        """
        mean, std = (tuple(tensor.flatten().tolist()) for tensor in self._normal)
        recipe, dataset = self._recipe, self._dataset
        record = WeightsRecord(
            spec=self._spec,
            digest=dataset.digest,
            arch=recipe.arch,
            encoder=recipe.encoder,
            encoder_depth=recipe.encoder_depth,
            decoder_channels=decoder_channels(recipe),
            channels=self._store.channels,
            task=self._task,
            classes=dataset.classes,
            full_scale=int(np.iinfo(self._store.dtype).max),
            mean=mean,
            std=std,
            point=self._evaluations[-1].point,
            log_prior=self._log_prior,
            versions={"torch": torch.__version__},
        )
        save_weights(path, self._average.model, record)

    def _restore(self, found: tuple[Checkpoint, dict[str, Any]]) -> None:
        state, tensors = found
        self._model.load_state_dict(tensors["model"])
        self._average.model.load_state_dict(tensors["average"])
        self._average.updates = state.averaged
        self._optimizer.load_state_dict(tensors["optimizer"])
        self._step, self._evaluations = state.step, list(state.evaluations)
        self._training_seconds = state.training_seconds
        self._started = self._clock() - state.seconds
        self._earlier = state.earlier
        if state.versions and (state.device, state.versions) != (self._device_name(), versions()):
            now = TrainedBy(device=state.device, versions=state.versions, step=state.step)
            self._earlier = (*state.earlier, now)

    @property
    def finished(self) -> bool:
        """Whether the last rung was evaluated, or the training diverged."""
        return self._diverged or self._step >= self._spec.steps

    def advance(self) -> Evaluation:
        """Train to the next rung and evaluate there: on a fixed subset, at the last rung on all of validation."""
        target = next(rung for rung in self._rungs if rung > self._step)
        loss, rate = self._train_to(target)
        images = self._split.val if target == self._rungs[-1] else self._rung_images
        counts, finite = self._evaluator.count(self._average.model, images)
        self._diverged = not (finite and math.isfinite(loss))
        self._last = counts
        on_part = None
        if len(images) > len(self._rung_images) and not self._diverged:
            rows = [counts.pictures.index(i) for i in self._rung_images]
            on_part = counts.model_copy(update={"pictures": self._rung_images, "data": counts.data[rows]})
        scored = self._scores(counts)
        evaluation = Evaluation(
            step=self._step,
            value=scored.value,
            point=scored.point,
            chosen=scored.chosen,
            default=scored.default,
            train_loss=loss if math.isfinite(loss) else None,
            lr=rate,
            pictures=len(images),
            val_images=len(self._split.val),
            part=None if on_part is None else self._scores(on_part),
            seconds=self._clock() - self._started,
        )
        self._evaluations.append(evaluation)
        return evaluation

    def result(self, state: Literal["complete", "pruned"]) -> TrialResult:
        """What the training gave so far; a finished confirmation is scored on the test split here, once."""
        last = self._evaluations[-1]
        collapse = at_default = Collapse.DIVERGED
        absent: tuple[str, ...] = ()
        assert self._last is not None
        if not self._diverged:
            chosen = metrics.at_point(self._last, last.point)
            collapse = judge(chosen)
            at_default = judge(metrics.at_point(self._last, metrics.default_point(self._task)))
            absent = never_predicted(chosen, self._dataset.classes)
        test, detail, predictions = None, None, None
        if self._spec.purpose == "confirm" and state == "complete" and not self._diverged:
            test, detail, predictions = self._score_test(last.point)
        return TrialResult(
            spec=self._spec,
            state=state,
            value=last.value,
            evaluations=tuple(self._evaluations),
            collapse=collapse,
            collapse_at_default=at_default,
            never_predicted=absent,
            val=metrics.pooled(self._last) if self.finished and not self._diverged else None,
            test=test,
            detail=detail,
            predictions=predictions,
            seconds=self._clock() - self._started,
            seconds_per_step=self._training_seconds / self._step,
            device=self._device_name(),
            versions=dict(versions()),
            earlier=self._earlier,
        )

    def _train_to(self, target: int) -> tuple[float, float]:
        """Optimise up to `target` steps; the mean loss since the last rung (NaN and inf kept) and the last rate."""
        began = self._clock()
        recipe, spec = self._recipe, self._spec
        total = torch.zeros((), device=self._device)
        first, rate = self._step, spec.lr
        # Dropout of some architectures draws from the global state: fork it, and key it like everything else.
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            while self._step < target:
                torch.manual_seed(spec.seed * 1_000_003 + self._step)
                rate = spec.lr * schedule(self._step, spec.steps, recipe.warmup, recipe.decay)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                inputs, labels, more = self._batch()
                with self._autocast():
                    logits = self._model(inputs)
                loss = self._criterion(logits, labels, **more)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
                self._average.update(self._model)
                total += loss.detach()
                self._step += 1
        mean = float(total) / max(1, self._step - first)
        self._training_seconds += self._clock() - began
        return mean, rate

    def _batch(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Inputs and labels of this step, and what else the loss wants, augmented alike on the device."""
        recipe = self._recipe
        keys: dict[str, Any] = {
            "size": recipe.size,
            "batch_size": recipe.batch_size,
            "step": self._step,
            "seed": self._spec.seed,
            "augmentation": recipe.augmentation,
        }
        images, masks, draws = training_batch(self._store, self._split.train, **keys)
        draws = draws.to(self._device)
        inputs = to_inputs(images.to(self._device), *self._normal)
        inputs, labels = augment(inputs, masks.to(self._device).long(), draws)
        if self._distances is None:
            return inputs, labels, {}
        places, _ = crops(self._store, self._split.train, **keys)
        maps = distance_batch(self._distances, places, recipe.size).to(self._device)
        return inputs, labels, {"distance": augment_distances(maps, draws)}

    def _scores(self, counts: ImageCounts) -> PartScores:
        """Objective and metrics of these images; 0 where the training diverged."""
        default = metrics.default_point(self._task)
        tuned = self._recipe.threshold == "tuned"
        point = metrics.best_point(counts, self._recipe.metric)[0] if tuned else default
        at_chosen = metrics.at_point(counts, point)
        value = float(metrics.objective(at_chosen.sum(axis=0), metrics.present(at_chosen), self._recipe.metric))
        # What NaN logits were counted as is no answer, and must not read like a constant one.
        score = metrics.nothing_right if self._diverged else metrics.scores
        return PartScores(
            value=0.0 if self._diverged else value,
            point=point,
            chosen=score(at_chosen),
            default=score(metrics.at_point(counts, default)),
            pictures=len(counts.pictures),
        )

    def _score_test(self, point: float) -> tuple[ImageCounts, TestDetail, Predictions | None]:
        found = self._evaluator.examine(
            self._average.model,
            self._split.test,
            point,
            boundary_pixels=self._recipe.boundary_pixels,
            keep=self._spec.keep_predictions,
            labels=self._scored,
        )
        shown = self._split.test[: len(found.maps)]
        predictions = Predictions(pictures=shown, masks=found.maps) if shown else None
        return metrics.pooled(found.counts), metrics.pooled_detail(found.detail), predictions

    def _affordable(self) -> int:
        """Validation images that a rung may look at without costing more than `RUNG_COST` of the trial."""
        sizes = [self._dataset.pictures[i].height * self._dataset.pictures[i].width for i in self._split.val]
        work = 3 * self._spec.steps * self._recipe.batch_size * self._recipe.size**2
        return max(RUNG_IMAGES, int(RUNG_COST * work / (sum(sizes) / len(sizes))))

    def _device_name(self) -> str:
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        threads = torch.get_num_threads()
        return f"{self._device.type}, {threads} thread{'s' if threads > 1 else ''}"
