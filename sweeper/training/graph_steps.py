"""Training steps as one recorded program of the device: the processor only says "again".

A step of a small network is a thousand kernels, and starting them takes the processor longer than the GPU needs to run
them. Here the step from the network to the moving average is recorded once in each training, as a CUDA graph, and
played for every later step. It reads fixed places in the device's memory: before each step its batch, its learning rate
and its weight in the average are copied there. Nothing waits for the processor before the rung's end.

What a recording breaks if it is forgotten: the first steps are taken before it, as libraries set themselves up in them,
and on the stream of the recording, so that the memory which libraries keep for a stream belongs to no graph
(github.com/pytorch/pytorch/issues/193402); autocast must not keep its casts; the learning rate is a tensor; and
whatever was recorded must stay alive, gradients included, as the graph writes to its memory.

A recorded step is compared with a plain one before it is used. Where a step draws random numbers or waits for the
device, which no recording can repeat, or the recorded one differs, steps are still taken one by one, and
`graph_fallback_reason` says why. A recording that fails all the same costs the process.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from sweeper.core.recipe import Engine
from sweeper.training.failure_causes import RecordingError, explain_failure
from sweeper.training.training_steps import TrainingSteps, use_precision

FIRST_STEPS = 3
"""Taken before the recording."""
TOLERANCE = 0.05
"""Norm of the difference between what a recorded step changes and what the plain one does, as a share of the latter:
with sums of varying order on a GPU, the two need not be the same. On an H200 seven losses stayed below 0.0001."""
RECORDING_DEVICES = {"cuda"}
"""Kinds of devices that record steps."""


def choose_steps_class(engine: Engine, device: torch.device) -> type[TrainingSteps]:
    """Return how a training takes its steps by the recipe's engine: one by one, or recorded if the device can."""
    return GraphSteps if engine == "graph" and device.type in RECORDING_DEVICES else TrainingSteps


def record_graph(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """Return a CUDA graph of the step, which is not taken."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=_get_side_stream(device)):
        step()
    return graph


class GraphSteps(TrainingSteps):
    """`TrainingSteps` whose steps are recorded."""

    def _prepare(self) -> None:
        # Casts that a recording kept would be read when they are long gone.
        self._autocast = partial(use_precision, self._device.type, self._recipe.precision, cache=False)
        self._rate, self._weight, self._loss = (torch.zeros((), device=self._device) for _ in range(3))
        self._held: dict[str, Tensor] = {}
        """The batch that the step reads, by name: the same memory each time."""
        self._recording: torch.cuda.CUDAGraph | None = None
        self._gradients: list[Tensor | None] = []
        """Of the recording."""
        self._taken = 0
        """Steps of this process's part of the training."""

    @property
    def is_recorded(self) -> bool:
        """Whether there is a recording, which the last steps were played from."""
        return self._recording is not None

    def _set_rate(self, step: int) -> float:
        rate = super()._set_rate(step)
        self._rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"], group["capturable"] = self._rate, self._device.type == "cuda"
        return rate

    def _take_step(self, step: int) -> Tensor:
        """See `TrainingSteps._take_step`.

        Raises:
            RecordingError: if a recording fails.
        """
        self._copy_to_inputs(step)
        self._weight.fill_(self.average.get_update_weight(self.average.updates))
        if self._recording is not None:
            self._recording.replay()
        elif self._taken >= FIRST_STEPS and self.why_plain is None:
            self._record_step()
        else:
            self._take_plain()
        self._taken += 1
        self.average.updates += 1
        return self._loss

    def _take_plain(self) -> None:
        """Take a step that is not recorded; the last one before the recording shows what no recording can repeat."""
        if self._taken != FIRST_STEPS - 1:
            with _use_side_stream(self._device):
                self._run_step()
            return
        before = self._get_random_state()
        with _use_side_stream(self._device), record_waits(self._device) as waits:
            self._run_step()
        if waits:
            self.why_plain = "the network or the loss waits for the GPU in each step (.item(), nonzero and the like)"
        elif not torch.equal(before, self._get_random_state()):
            self.why_plain = "the network draws random numbers in each step (dropout)"

    def _copy_to_inputs(self, step: int) -> None:
        """Put the step's batch where it is read."""
        inputs, labels, more = self._make_batch(step)
        named = {"inputs": inputs, "labels": labels, **more}
        if not self._held:
            self._held = {name: torch.empty_like(values) for name, values in named.items()}  # strides included
        for name, values in named.items():
            self._held[name].copy_(values)

    def _run_step(self) -> None:
        """Run one step from the network to the average: nothing here waits for the device."""
        more = dict(self._held)
        self._loss.copy_(self._update_weights(more.pop("inputs"), more.pop("labels"), more))
        self.average.update_by(self.model, self._weight)

    def _get_random_state(self) -> Tensor:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.get_rng_state(self._device) if on_gpu else torch.get_rng_state()

    def _record_step(self) -> None:
        """Record a step, compare it with a plain one, and leave the plain one's weights."""
        state, shown = self._list_state(), list_evaluated_state(self.model, self.average.model)
        before, unchanged = _copy_tensors(state), {name: _copy_tensors(tensors) for name, tensors in shown.items()}
        try:
            self.optimizer.zero_grad(set_to_none=True)
            recording = record_graph(self._run_step, self._device)
            self._gradients = [parameter.grad for parameter in self.model.parameters()]
            _put_tensors(state, before)
            recording.replay()
            recorded = {name: _copy_tensors(tensors) for name, tensors in shown.items()}
        except Exception as error:
            # What the end of a recording raises says that something was wrong before, and not what.
            first = "" if error.__context__ is None else f", after {explain_failure(error.__context__)}"
            raise RecordingError(
                f"a training step could not be recorded as a CUDA graph: {explain_failure(error)}{first}; --engine "
                "eager takes steps one by one"
            ) from error
        _put_tensors(state, before)
        self._run_step()
        apart = {name: measure_change_distance(unchanged[name], recorded[name], shown[name]) for name in shown}
        if not max(apart.values()) <= TOLERANCE:
            shares = ", ".join(f"{share:.2%} ({name})" for name, share in apart.items())
            self.why_plain = f"a recorded step differs from a plain one by {shares} of its length"
        else:
            self._recording = recording

    def _list_state(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        moments = [
            value for one in self.optimizer.state.values() for value in one.values() if isinstance(value, Tensor)
        ]
        networks = [[*network.parameters(), *network.buffers()] for network in (self.model, self.average.model)]
        return [*networks[0], *networks[1], *moments, self._loss]


def list_evaluated_state(model: nn.Module, average: nn.Module) -> dict[str, list[Tensor]]:
    """Return the changing tensors that an evaluation, now or later, depends on, by their kind.

    Args:
        model: that is trained.
        average: of its weights.
    """
    return {
        "weights": [parameter.detach() for parameter in model.parameters()],
        "their average": [parameter.detach() for parameter in average.parameters()],
        "BatchNorm statistics": [b for network in (model, average) for b in network.buffers() if b.is_floating_point()],
    }


def measure_change_distance(before: Sequence[Tensor], recorded: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Length of the difference between two changes of tensors, as a share of the second's length.

    Infinite where the recorded one alone is not finite; 0 where the plain one is not: a training that diverges does so
    either way.
    """
    length, apart = _compute_distance(before, plain), _compute_distance(recorded, plain)
    if not math.isfinite(length):
        return 0.0
    if not math.isfinite(apart):
        return math.inf
    return apart / length if length else 0.0 if not apart else math.inf


def _compute_distance(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the length of the difference; the processor waits for a GPU once, not for each of some hundred tensors."""
    if not some:
        return 0.0
    norms = torch.stack(torch._foreach_norm(torch._foreach_sub(list(some), list(others))))
    return float(norms.double().square().sum().sqrt())


@contextmanager
def record_waits(device: torch.device) -> Iterator[list[warnings.WarningMessage]]:
    """Record what makes the processor wait for the GPU; torch warns of it on request."""
    if device.type != "cuda":
        yield []
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        recorded: list[warnings.WarningMessage] = []
        try:
            yield recorded
        finally:
            torch.cuda.set_sync_debug_mode(before)
            recorded += [one for one in seen if "synchronizing CUDA operation" in str(one.message)]


@cache
def _get_side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a device's stream for recordings and the steps before them: libraries keep memory by stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _use_side_stream(device: torch.device) -> Iterator[None]:
    """Run the block on the stream of the recordings; it and the usual one wait for each other before and after."""
    if device.type != "cuda":
        yield
        return
    side, usual = _get_side_stream(device), torch.cuda.current_stream(device)
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        yield
    usual.wait_stream(side)


def _copy_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _put_tensors(state: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(state, values)
