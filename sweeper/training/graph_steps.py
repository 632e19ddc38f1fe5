"""Training steps as one recorded program of the device: the processor only says "again".

A step of a small network is a thousand kernels, and starting them takes the processor longer than the GPU needs to run
them. Here everything that a rung needs (places of the crops, draws, learning rates, weights of the average) is copied
to the device before it; a counter on the device says which step it is; and the step, from cutting the crops to the
moving average, is recorded once as a CUDA graph and played for every later step. Nothing waits for the processor before
the rung's end. Where batches cannot be cut on the device alone (`_is_staged`), each is made while the device takes the
step before (`staged_batches.py`), and the recorded step begins with it.

The next training of the process takes over the memory and the recordings (`renew`): where its loss has the structure of
an earlier one nothing is recorded anew. It takes the steps that a new training takes, in the same order.

What a recording breaks if it is forgotten: the first steps are taken before it, as libraries set themselves up in
them, and on a stream of its own; autocast must not keep its casts; the learning rate is a tensor; and whatever was
recorded must stay alive, gradients included, as the graph writes to its memory.

A step that draws random numbers, or that a recording does not take as it is, is taken as by `TrainingSteps`; `fault`
says why. A recording that fails costs the process.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.errors import UsageError
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.losses.build import KernelLoss
from sweeper.losses.reloadable import ReloadableLoss, structure
from sweeper.training.augment import Draws, augment
from sweeper.training.batches import to_inputs
from sweeper.training.failure_causes import RecordingError, explain
from sweeper.training.initial_networks import Starts
from sweeper.training.model import normaliser
from sweeper.training.recordings import Record, Recorded, Recording, stream_of
from sweeper.training.resident_store import ResidentStore
from sweeper.training.rung_plan import CropPlan, RatePlan, longest_rung, plan_crops, plan_rates
from sweeper.training.staged_batches import Batch, StagedBatches
from sweeper.training.stepwise import Stepwise, until_done
from sweeper.training.training_steps import TrainingSteps, autocast, training_loss
from sweeper.training.weight_change import changes_apart, evaluated

FIRST_STEPS = 3
"""Taken before the recording."""
KEPT = 8
"""Recordings of so many structures of losses are kept: each has its gradients, about the size of the network."""
SPENT = 32
"""So many recordings are left alone that no training plays any more. They have no gradients."""
TOLERANCE = 0.25
"""Norm of the difference between what a recorded step changes and what the plain one does, as a share of the latter: in
low precision, and with sums of varying order on a GPU, the two are not the same. To be less once it was seen there."""


class GraphSteps(TrainingSteps):
    """`TrainingSteps` whose steps are recorded."""

    def __init__(
        self,
        spec: TrialSpec,
        conditions: Conditions,
        store: PixelStore,
        images: tuple[int, ...],
        *,
        device: torch.device,
        starts: Starts,
        resident: ResidentStore | None,
        record: Record,
    ) -> None:
        """The network as it begins, and room on the device for the longest of the recipe's rungs.

        Args:
            spec, conditions, store, images, device, starts, resident: see `TrainingSteps`.
            record: records a step.
        """
        super().__init__(spec, conditions, store, images, device=device, starts=starts, resident=resident)
        self._record = record
        # Casts that a recording kept would be read when they are long gone.
        self._autocast = partial(autocast, device.type, self._recipe.precision, cache=False)
        self._count = torch.zeros(1, dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        self._rate = torch.tensor(self._spec.lr, dtype=torch.float32, device=device)
        self.stream = stream_of(device)
        """On which steps are recorded, and are to be played: libraries keep memory by stream."""
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        """Of the steps before the recording: torch keeps freed memory by stream, so that it is one and the same."""
        recipe = self._recipe
        longest = max(longest_rung(recipe, steps) for steps in (spec.steps, recipe.steps, recipe.confirm_steps))
        self._crops = CropPlan.empty(longest, recipe.batch_size, device)
        self._rates = RatePlan.empty(longest, device)
        self._staged = StagedBatches(self._batch, device)
        self._recorded: dict[Hashable, Recorded] = {}
        """By what is computed of the loss."""
        self._spent: list[Recording] = []
        """No training plays them any more. Destroying one would free memory of cuBLAS that others of its stream write
        to (github.com/pytorch/pytorch/issues/193402): all go together."""
        self._recording: Recording | None = None
        self._taken = 0
        """Steps of this process's part of the training."""
        self._structure = self._use_loss(self.criterion)

    @property
    def renewable(self) -> bool:
        """Whether another training can take over: a network of the user's may hold what is in no state dict."""
        return self.fault is None and self._recipe.model is None

    def renew(self, spec: TrialSpec, images: tuple[int, ...], starts: Starts) -> None:
        """Begin another training of the study, in the memory that the recordings know.

        Args:
            spec, images, starts: as at the beginning.
        """
        self._spec, self._images = spec, images
        self._recording, self._taken, self.checked = None, 0, None
        if (spent := self._recorded.pop(None, None)) is not None:
            self._spent.append(spent.recording)
        dataset, recipe = self._dataset, self._recipe
        begin = starts.kept(
            recipe,
            channels=self._store.channels,
            class_pixels=self._conditions.pixels_seen(images),
            task=dataset.task,
            seed=spec.seed,
        )
        with torch.no_grad():
            for own in (self.model, self.average.model):
                for tensor, first in zip(_tensors(own), _tensors(begin), strict=True):
                    tensor.copy_(first)
            for moments in self.optimizer.state.values():
                for value in moments.values():
                    value.zero_()
            for number, first in zip(self.normal, normaliser(self._store, images), strict=True):
                number.copy_(first)
        self.optimizer.zero_grad(set_to_none=True)
        self.average.restart(recipe.average * spec.steps)
        self._find_maps()
        if (longest := longest_rung(recipe, spec.steps)) > len(self._rates.rates):
            self._crops = CropPlan.empty(longest, recipe.batch_size, self._device)
            self._rates = RatePlan.empty(longest, self._device)
            self._forget_recordings()  # they read the shorter ones
        self._structure = self._use_loss(training_loss(spec, self._conditions, images))

    def restore(self, state: dict[str, Any], averaged: int) -> None:
        """See `TrainingSteps.restore`."""
        before = {parameter: dict(moments) for parameter, moments in self.optimizer.state.items()}
        super().restore(state, averaged)
        if before.keys() != self.optimizer.state.keys():  # of steps that have not begun there is nothing
            self._forget_recordings()
            return
        for parameter, moments in before.items():
            for name, tensor in moments.items():  # recordings write to these
                tensor.copy_(self.optimizer.state[parameter][name])
                self.optimizer.state[parameter][name] = tensor

    def _use_loss(self, loss: nn.Module) -> Hashable:
        """Train with this loss, in a recorded one's memory where that has the same structure.

        Returns:
            What a recording depends on; None outside the kernel, where its numbers are part of it: no other training
            plays it.
        """
        if not isinstance(loss, KernelLoss):
            self.criterion = loss.to(self._device)
            return None
        key = structure(loss)
        if (known := self._recorded.get(key)) is None:
            self.criterion = ReloadableLoss(loss).to(self._device)
        else:
            assert isinstance(known.criterion, ReloadableLoss)
            known.criterion.load(loss)
            self.criterion = known.criterion
        return key

    @property
    def recorded(self) -> bool:
        """See `TrainingSteps.recorded`."""
        return self._recording is not None

    def running(self, first: int, target: int) -> Stepwise[tuple[float, float]]:
        """See `TrainingSteps.running`.

        Raises:
            UsageError: if the recipe insists on recorded steps, and these are not those that plain ones take.
            RecordingError: if a recording fails.
        """
        self._begin(first, target)
        staged = self._staged if self._is_staged else None
        for step in range(first, target):
            if staged is not None:
                staged.bring(step)
            if self._recording is not None:
                self._recording.replay()
            else:
                with self._own_draws():
                    if self.fault is not None or self._taken < FIRST_STEPS:
                        self._plain(step)
                    elif (known := self._recorded.get(self._structure)) is not None:
                        self._plain(step)  # as where it is recorded: a training gives the same either way
                        self._recording = known.recording
                    else:
                        self._start_recording(step)
            self._taken += 1
            if staged is not None and step + 1 < target:
                staged.prepare(step + 1)
            yield
        self.average.updates += target - first
        yield from until_done(self._device)
        return float(self._total) / max(1, target - first), float(self._rate)

    def _begin(self, first: int, target: int) -> None:
        steps = range(first, target)
        self._rates.fill(plan_rates(self._spec, self._recipe, self.average, steps))
        if self._is_staged:
            self._staged.begin()
        else:
            given = (self._spec, self._recipe, self._store, self._images, steps)
            self._crops.fill(plan_crops(*given, central=self._central))
        self._count.zero_()
        self._total.zero_()
        for group in self.optimizer.param_groups:  # a checkpoint may have brought a number
            group["lr"] = self._rate
            group["capturable"] = self._device.type == "cuda"

    def _plain(self, step: int) -> None:
        """A step that is not recorded. The first one shows whether the network draws random numbers."""
        self._seed(step)
        before = self._random_state() if self._taken == 0 else None
        with _beside(self._side) if self._side is not None and self._taken < FIRST_STEPS else nullcontext():
            self._step()
        if before is not None and not torch.equal(before, self._random_state()):
            self._give_up("the network draws random numbers in each step (dropout)")

    def _random_state(self) -> Tensor:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.get_rng_state(self._device) if on_gpu else torch.get_rng_state()

    def _step(self) -> None:
        """One step, from the plan's next entry to the average: nothing here waits for the device."""
        rate, weight = self._now(self._rates.rates, self._rates.weights)
        self._rate.copy_(rate)
        inputs, labels, more = self._staged.batch if self._is_staged else self._cut_batch()
        self._total += self._update(inputs, labels, more)
        self.average.update_by(self.model, weight)
        self._count += 1

    def _now(self, *plan: Tensor) -> list[Tensor]:
        """Of these the entries of the step that the counter on the device says."""
        return [values.index_select(0, self._count)[0] for values in plan]

    def _cut_batch(self) -> Batch:
        """The batch of the plan's next entry, cut from pixels that are on the device."""
        assert self._resident is not None
        places, flip, light = self._now(self._crops.places, self._crops.flip, self._crops.light)
        images, masks = self._resident.cut(places, self._recipe.size, self._recipe.size)
        draws = Draws(flip, light[0], light[1])
        return *augment(to_inputs(images, *self.normal), masks.long(), draws), {}

    @property
    def _is_staged(self) -> bool:
        """Whether batches are made outside the step: pixels or maps are the processor's, or noise is drawn anew."""
        return self._resident is None or self._maps is not None or self._recipe.augmentation == "full"

    def _start_recording(self, step: int) -> None:
        """Record a step, compare it with a plain one, and leave the plain one's weights."""
        state, shown = self._all_state(), evaluated(self.model, self.average.model)
        before, unchanged = _copied(state), {name: _copied(tensors) for name, tensors in shown.items()}
        try:
            self.optimizer.zero_grad(set_to_none=True)
            self._recording = self._recorded_step()
            _put(state, before)
            self._recording.replay()
            recorded = {name: _copied(tensors) for name, tensors in shown.items()}
        except Exception as error:
            # What the end of a recording raises says that something was wrong before, and not what.
            first = "" if error.__context__ is None else f", after {explain(error.__context__)}"
            raise RecordingError(
                f"a training step could not be recorded as a CUDA graph: {explain(error)}{first}; --engine eager takes "
                "steps one by one"
            ) from error
        _put(state, before)
        self._plain(step)
        apart = changes_apart(unchanged, recorded, shown)
        shares = ", ".join(f"{share:.2%} ({name})" for name, share in apart.items())
        self.checked = f"a recorded step differs from a plain one by {shares} of its length"
        if not max(apart.values()) <= TOLERANCE:
            self._give_up(self.checked)

    def _recorded_step(self) -> Recording:
        """A new recording."""
        if len(self._recorded) == KEPT or len(self._spent) == SPENT:
            self._forget_recordings()
        earlier = next((one.recording for one in self._recorded.values()), None) or next(iter(self._spent), None)
        recording = self._record(self._step, earlier)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self._recorded[self._structure] = Recorded(recording, self.criterion, gradients)
        return recording

    def _forget_recordings(self) -> None:
        """All of them: see `_spent`."""
        self._recorded.clear()
        self._spent.clear()

    def _give_up(self, reason: str) -> None:
        """Take the steps one by one from here on."""
        self._recording, self.fault = None, reason
        self._forget_recordings()
        if self._recipe.engine == "graph":
            raise cannot_record(reason)

    def _all_state(self) -> list[Tensor]:
        """Every tensor that a step changes; the weights first."""
        moments = [
            value for one in self.optimizer.state.values() for value in one.values() if isinstance(value, Tensor)
        ]
        own = [self._count, self._total, self._rate]
        return [*_tensors(self.model), *_tensors(self.average.model), *moments, *own]


def cannot_record(reason: str) -> UsageError:
    """What is raised where recorded steps are insisted on."""
    return UsageError(f"--engine graph needs steps that can be recorded, and {reason}; use --engine auto")


@contextmanager
def _beside(side: torch.cuda.Stream) -> Iterator[None]:
    """On this stream, before and after which it and the usual one wait for each other."""
    usual = torch.cuda.current_stream(side.device)
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        yield
    usual.wait_stream(side)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*(parameter.detach() for parameter in model.parameters()), *model.buffers()]


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _put(state: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(state, values)
