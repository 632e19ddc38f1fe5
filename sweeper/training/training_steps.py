"""The network of one training, and its optimiser steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.recipe import Precision
from sweeper.core.records import IGNORE, Conditions, TrialSpec
from sweeper.core.tasks import RULES
from sweeper.data.label_maps import MapStore
from sweeper.losses import FAMILIES, build_loss
from sweeper.losses.build import SegmentationLoss
from sweeper.training.augment import augment, augment_distances
from sweeper.training.batches import FORGET, draw_crops, map_batch, normalise_inputs
from sweeper.training.counters import unpack_labels
from sweeper.training.hardware import move_to_device, use_fastest_kernels
from sweeper.training.model import WeightAverage, copy_initial_model, make_normaliser
from sweeper.training.training_context import TrainingContext


def compute_rate_factor(step: int, steps: int, warmup: float, decay: float) -> float:
    """Return the learning rate's factor at `step` (from 0) of `steps`: linear rise, plateau, linear fall to 0."""
    rise = min(1.0, (step + 1) / max(1.0, warmup * steps))
    fall = min(1.0, (steps - step) / max(1.0, decay * steps))
    return min(rise, fall)


class TrainingSteps:
    """Network, moving average of its weights, loss and optimiser.

    Seed and step determine batches and all draws: a step depends only on the weights, the optimiser's state and its own
    number.
    """

    def __init__(self, spec: TrialSpec, context: TrainingContext, images: tuple[int, ...]) -> None:
        """Create the steps with the initial network.

        Args:
            spec: the training's spec.
            context: conditions, pixels and device.
            images: indices of the training images.
        """
        conditions, store, device = context.conditions, context.store, context.device
        self._spec, self._context, self._images = spec, context, images
        self._recipe, self._store, self._device = conditions.recipe, store, device
        dataset, recipe = conditions.dataset, conditions.recipe
        rules = RULES[dataset.task]
        bias = rules.compute_bias(dataset, images)
        model = copy_initial_model(recipe, channels=store.channels, bias=bias, seed=spec.seed)
        # Convolutions are faster in channels_last memory, on CPUs and tensor cores.
        self.model: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.model, recipe.average * spec.steps)
        self.criterion = build_training_loss(spec, conditions, images).to(device)
        labels = tuple(range(rules.first_channel, len(dataset.classes)))
        is_mapped = FAMILIES[spec.family].needs_map is not None
        self._distances = MapStore(store, labels, has_planes=rules.has_planes) if is_mapped else None
        self._unpack: Callable[[Tensor], Tensor] = torch.Tensor.long
        if rules.has_planes:
            ignored = rules.get_ignored_label(len(labels))
            self._unpack = partial(unpack_labels, channels=len(labels), ignored_label=ignored)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=spec.lr, weight_decay=recipe.weight_decay, fused=device.type in {"cpu", "cuda"}
        )
        mean, std = make_normaliser(store, images, (recipe.input_mean, recipe.input_std))
        self.normal = (mean.to(device), std.to(device))
        """Mean and standard deviation of each channel, (1, C, 1, 1) float32."""
        self.autocast: Callable[[], AbstractContextManager[object]] = partial(
            use_precision, device.type, recipe.precision
        )
        self._autocast = self.autocast
        """Precision of the training steps."""

    why_plain: str | None = None
    """Reason why steps are not recorded although requested, else None."""

    @property
    def is_recorded(self) -> bool:
        """Whether the last steps were replayed from a recording."""
        return False

    def take_steps(self, first: int, target: int) -> tuple[float, float]:
        """Take the steps from `first` up to `target`; return their mean loss (may be NaN or inf) and the last rate."""
        total, rate = torch.zeros((), device=self._device), self._spec.lr
        for step in range(first, target):
            with self._seed_network_draws():
                self._seed_step(step)
                rate = self._set_rate(step)
                total += self._take_step(step)
        return float(total) / max(1, target - first), rate

    def get_state(self) -> dict[str, Any]:
        """Return the state of networks and optimiser for a checkpoint, without `average.updates`."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore_state(self, state: dict[str, Any], averaged: int) -> None:
        """Restore the result of `get_state`, with `averaged` updates of the average."""
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.average.updates = averaged
        self.optimizer.load_state_dict(state["optimizer"])

    def _take_step(self, step: int) -> Tensor:
        """Take a step, and return the loss before it."""
        loss = self._update_weights(*self._make_batch(step))
        self.average.update(self.model)
        return loss

    def _update_weights(self, inputs: Tensor, labels: Tensor, more: dict[str, Tensor]) -> Tensor:
        """Take one step of the optimiser, and return the loss before it."""
        with use_fastest_kernels(self._device):
            with self._autocast():
                logits = self.model(inputs)
            loss: Tensor = self.criterion(logits, labels, **more)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _seed_network_draws(self) -> AbstractContextManager[None]:
        """Fork the global random state, from which dropout of some architectures draws, for seeded steps."""
        return torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else [])

    def _seed_step(self, step: int) -> None:
        torch.manual_seed(self._spec.seed * 1_000_003 + step)

    def _set_rate(self, step: int) -> float:
        rate = self._spec.lr * compute_rate_factor(step, self._spec.steps, self._recipe.warmup, self._recipe.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["capturable"] = False  # a checkpoint of recorded steps sets it
        return rate

    def _make_batch(self, step: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Make a step's inputs, labels and other arguments of the loss, augmented together on the device."""
        recipe = self._recipe
        places, draws = draw_crops(
            self._store,
            self._images,
            size=recipe.size,
            batch_size=recipe.batch_size,
            step=step,
            seed=self._spec.seed,
            augmentation=recipe.augmentation,
        )
        draws = draws.to(self._device)
        images, masks = self._context.load_crops(places, recipe.size, recipe.size)
        if step % FORGET == FORGET - 1:
            self._store.release_memory()
        inputs, labels = augment(normalise_inputs(images, *self.normal), masks.long(), draws, self._store.ignored_label)
        labels = self._unpack(labels)
        if self._distances is None:
            return inputs, labels, {}
        distances = move_to_device(map_batch(self._distances, places, recipe.size), self._device)
        return inputs, labels, {"distance": augment_distances(distances, draws)}


def use_precision(device_type: str, precision: Precision, cache: bool = True) -> AbstractContextManager[object]:
    """Return a context for the forward pass in a precision; `cache`: reuse casts of weights within a block."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device_type, dtype=torch.bfloat16, cache_enabled=cache)


def build_training_loss(spec: TrialSpec, conditions: Conditions, images: tuple[int, ...]) -> nn.Module:
    """Build the loss of a training on these images, on the processor."""
    loss = build_loss(
        spec.family,
        task=conditions.dataset.task,
        ignore_index=IGNORE,
        class_frequencies=RULES[conditions.dataset.task].make_frequencies(conditions.dataset, images),
        **spec.params,
    )
    if isinstance(loss, SegmentationLoss):
        loss.checks_labels = False  # checked when the data were read
    return loss
