"""Training steps as one recorded program of the device: the processor only says "again".

A step of a small network is a thousand kernels, and starting them takes the processor longer than the GPU needs to run
them. Here everything that a rung needs (places of the crops, draws, learning rates, weights of the average) is copied
to the device before it; a counter on the device says which step it is; and the step, from cutting the crops to the
moving average, is recorded once as a CUDA graph and played for every later step. Nothing waits for the processor before
the rung's end.

What a recording breaks if it is forgotten: the first steps are taken before it, as libraries set themselves up in
them, and on a stream of its own; autocast must not keep its casts; the learning rate is a tensor; and whatever was
recorded must stay alive, gradients included, as the graph writes to its memory.

A step that cannot be recorded is taken as by `TrainingSteps`: `step_choice.why_not` says which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from sweeper.core.errors import UsageError
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.training.augment import Draws, augment
from sweeper.training.batches import crops, to_inputs
from sweeper.training.failure_causes import out_of_memory
from sweeper.training.initial_networks import Starts
from sweeper.training.resident_store import ResidentStore, as_tensor
from sweeper.training.stepwise import Stepwise
from sweeper.training.training_steps import TrainingSteps, autocast, schedule

FIRST_STEPS = 3
"""Taken before the recording."""
TOLERANCE = 0.25
"""Norm of the difference between a recorded step's change of the weights and the plain one's, as a share of the latter:
in low precision, and with sums of varying order on a GPU, the two are not the same."""


class Recording(Protocol):
    """A recorded step."""

    def replay(self) -> None:
        """Take the step once more."""


Record = Callable[[Callable[[], None]], Recording]
"""Records what a function does on the device; it may call it or not."""


def record_graph(step: Callable[[], None]) -> Recording:
    """A CUDA graph of the step, which is not taken.

    Of several trainings each records on its own stream: libraries keep memory by stream, which graphs that are played
    at the same time must not share (github.com/pytorch/pytorch/issues/193402).
    """
    graph, own = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    alone = own == torch.cuda.default_stream()
    # A capture that fails may leave its own stream the current one: the outer block does not.
    with torch.cuda.stream(own), torch.cuda.graph(graph, stream=None if alone else own):
        step()
    return graph


@dataclass(frozen=True)
class _Plan:
    """What the steps of a rung need, on the device, by their place in the rung."""

    places: Tensor
    """(S, N, 5) int64."""
    flip: Tensor
    """(S, N) bool."""
    light: Tensor
    """(S, 2, N) float32: contrast, brightness."""
    rates: Tensor
    """(S,) float32."""
    weights: Tensor
    """(S,) float32: of the new weights in the average."""

    def fill(self, other: _Plan) -> None:
        """Take another plan's values, of no more steps."""
        for name, values in vars(other).items():
            getattr(self, name)[: len(values)].copy_(values)


_BESIDE: ContextVar[bool] = ContextVar("beside_others", default=False)


@contextmanager
def beside(others: bool) -> Iterator[None]:
    """Steps that are taken in the block have other trainings beside them in this process, or none."""
    token = _BESIDE.set(others)
    try:
        yield
    finally:
        _BESIDE.reset(token)


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
        resident: ResidentStore,
        record: Record,
    ) -> None:
        """The network as it begins, and room on the device for the longest of the recipe's rungs.

        Args:
            spec, conditions, store, images, device, starts, resident: see `TrainingSteps`.
            record: records a step.
        """
        super().__init__(spec, conditions, store, images, device=device, starts=starts, resident=resident)
        self._record, self._pixels = record, resident
        # Casts that a recording kept would be read when they are long gone.
        self._autocast = partial(autocast, device.type, self._recipe.precision, cache=False)
        self._count = torch.zeros(1, dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        self._rate = torch.tensor(self._spec.lr, dtype=torch.float32, device=device)
        batch = self._recipe.batch_size
        most = max(b - a for a, b in pairwise((0, *self._recipe.rungs(spec.steps))))
        self._plan = _Plan(
            torch.zeros((most, batch, 5), dtype=torch.int64, device=device),
            torch.zeros((most, batch), dtype=torch.bool, device=device),
            torch.zeros((most, 2, batch), device=device),
            torch.zeros(most, device=device),
            torch.zeros(most, device=device),
        )
        self._recording: Recording | None = None
        self._kept: list[Tensor] = []
        """Gradients that the recording writes to."""
        self._taken = 0
        """Steps of this process's part of the training."""

    @property
    def recorded(self) -> bool:
        """See `TrainingSteps.recorded`."""
        return self._recording is not None

    def running(self, first: int, target: int) -> Stepwise[tuple[float, float]]:
        """See `TrainingSteps.running`.

        Raises:
            UsageError: if the recipe insists on recorded steps, and these cannot be recorded.
            RuntimeError: as raised by a recording that found no memory beside other trainings; with fewer of them it
                may.
        """
        self._begin(first, target)
        for step in range(first, target):
            if self._recording is not None:
                self._recording.replay()
            else:
                with self._own_draws():
                    if self.fault is not None or self._taken < FIRST_STEPS:
                        self._plain(step)
                    else:
                        self._start_recording(step)
            self._taken += 1
            yield
        self.average.updates += target - first
        return float(self._total) / max(1, target - first), float(self._rate)

    def _begin(self, first: int, target: int) -> None:
        self._plan.fill(self._planned(first, target))
        self._count.zero_()
        self._total.zero_()
        for group in self.optimizer.param_groups:  # a checkpoint may have brought a number
            group["lr"] = self._rate
            group["capturable"] = self._device.type == "cuda"

    def _plain(self, step: int) -> None:
        """A step that is not recorded. The first one shows whether the network draws random numbers."""
        self._seed(step)
        before = self._random_state() if self._taken == 0 else None
        with _on_a_side_stream(self._device) if self._taken < FIRST_STEPS else nullcontext():
            self._step()
        if before is not None and not torch.equal(before, self._random_state()):
            self._give_up("the network draws random numbers in each step (dropout)")

    def _random_state(self) -> Tensor:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.get_rng_state(self._device) if on_gpu else torch.get_rng_state()

    def _planned(self, first: int, target: int) -> _Plan:
        recipe, places, draws = self._recipe, [], []
        for step in range(first, target):
            found, drawn = crops(
                self._store,
                self._images,
                size=recipe.size,
                batch_size=recipe.batch_size,
                step=step,
                seed=self._spec.seed,
                augmentation=recipe.augmentation,
            )
            places.append(as_tensor(found))
            draws.append(drawn)
        factors = [schedule(step, self._spec.steps, recipe.warmup, recipe.decay) for step in range(first, target)]
        done = self.average.updates
        return _Plan(
            torch.stack(places),
            torch.stack([drawn.flip for drawn in draws]),
            torch.stack([torch.stack([drawn.contrast, drawn.brightness]) for drawn in draws]),
            torch.tensor([self._spec.lr * factor for factor in factors]),
            torch.tensor([self.average.weight(done + k) for k in range(target - first)]),
        )

    def _step(self) -> None:
        """One step, from the plan's next entry to the average: nothing here waits for the device."""
        places, flip, light, rate, weight = (
            values.index_select(0, self._count)[0]
            for values in (self._plan.places, self._plan.flip, self._plan.light, self._plan.rates, self._plan.weights)
        )
        self._rate.copy_(rate)
        images, masks = self._pixels.cut(places, self._recipe.size, self._recipe.size)
        draws = Draws(flip, light[0], light[1])
        inputs, labels = augment(to_inputs(images, *self.normal), masks.long(), draws)
        self._total += self._update(inputs, labels, {})
        self.average.update_by(self.model, weight)
        self._count += 1

    def _start_recording(self, step: int) -> None:
        """Record a step, compare it with a plain one, and leave the plain one's weights; or say why that failed."""
        state, weights = self._all_state(), [parameter.detach() for parameter in self.model.parameters()]
        before, unchanged = _copied(state), _copied(weights)
        failure, recorded = None, unchanged
        try:
            self.optimizer.zero_grad(set_to_none=True)
            self._recording = self._record(self._step)
            self._kept = [p.grad for p in self.model.parameters() if p.grad is not None]
            _put(state, before)
            self._recording.replay()
            recorded = _copied(weights)
        except RuntimeError as error:
            if _BESIDE.get() and out_of_memory(error):
                raise
            failure = " ".join(str(error).split())[:200]
        _put(state, before)
        self._plain(step)
        if failure is None and not (apart := change_apart(unchanged, recorded, weights)) <= TOLERANCE:
            failure = f"a recorded step differs from a plain one by {apart:.0%} of its length"
        if failure is not None:
            self._give_up(failure)

    def _give_up(self, reason: str) -> None:
        """Take the steps one by one from here on."""
        self._recording, self._kept, self.fault = None, [], reason
        if self._recipe.engine == "graph":
            raise cannot_record(reason)

    def _all_state(self) -> list[Tensor]:
        """Every tensor that a step changes; the weights first."""
        moments = [
            value for one in self.optimizer.state.values() for value in one.values() if isinstance(value, Tensor)
        ]
        averaged = [*self.average.model.parameters(), *self.average.model.buffers()]
        own = [self._count, self._total, self._rate]
        weights = [parameter.detach() for parameter in self.model.parameters()]
        return [*weights, *self.model.buffers(), *(tensor.detach() for tensor in averaged), *moments, *own]


def cannot_record(reason: str) -> UsageError:
    """What is raised where recorded steps are insisted on."""
    return UsageError(f"--engine graph needs steps that can be recorded, and {reason}; use --engine auto")


@contextmanager
def _on_a_side_stream(device: torch.device) -> Iterator[None]:
    """On a stream of its own, before and after which the device's streams wait for each other."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    usual = torch.cuda.current_stream(device)
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _put(state: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(state, values)


def change_apart(before: list[Tensor], recorded: list[Tensor], plain: list[Tensor]) -> float:
    """Length of the difference between two changes of the weights, as a share of the second's length.

    Infinite where the recorded one alone is not finite; 0 where the plain one is not: a training that diverges does so
    either way.
    """
    length = math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in zip(before, plain, strict=True)))
    apart = math.sqrt(
        sum(float((a.double() - b.double()).square().sum()) for a, b in zip(recorded, plain, strict=True))
    )
    if not math.isfinite(length):
        return 0.0
    if not math.isfinite(apart):
        return math.inf
    return apart / length if length else 0.0 if not apart else math.inf
