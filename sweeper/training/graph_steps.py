"""Training steps recorded as a CUDA graph, which the processor only replays.

A step of a small network has a thousand kernels, and launching them takes longer than running them. Each training
therefore records the step, from the network to the moving average, once as a CUDA graph, and replays it for every later
step. The graph reads fixed device memory: before each step the batch, the learning rate and the weight in the average
are copied there. Nothing waits for the processor before the rung's end.

A recording requires:

- The first steps come before the recording, because libraries initialise themselves in them, and run on the recording's
  stream, so that memory which libraries keep per stream belongs to no graph
  (github.com/pytorch/pytorch/issues/193402).
- autocast does not cache casts, and the learning rate is a tensor.
- All recorded tensors, including gradients, stay alive, because the graph writes to their memory.

A recorded step is compared with a plain one before use. If a step draws random numbers or waits for the device, which a
recording cannot repeat, or if the recorded step differs, steps are taken one by one, and `graph_fallback_reason` is the
reason. If the recording itself fails, the process has to end.
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
from sweeper.core.records import TrialSpec
from sweeper.training.failure_causes import RecordingError, explain_failure
from sweeper.training.training_context import TrainingContext
from sweeper.training.training_steps import TrainingSteps, use_precision

FIRST_STEPS = 3
"""Number of steps before the recording."""
TOLERANCE = 0.05
"""Largest norm of the difference between the changes by a recorded and a plain step, as a share of the plain one. They
may differ, because the order of sums varies on a GPU; on an H200 seven losses stayed below 0.0001."""
RECORDING_DEVICES = {"cuda"}
"""Device types that can record steps."""


def choose_steps_class(engine: Engine, device: torch.device) -> type[TrainingSteps]:
    """Return the class of a training's steps by the recipe's engine: plain, or recorded if the device can."""
    is_recorded = engine == "graph" and device.type in RECORDING_DEVICES
    return GraphSteps if is_recorded else TrainingSteps


def record_graph(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """Record a step as a CUDA graph, without running it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=_get_side_stream(device)):
        step()
    return graph


class GraphSteps(TrainingSteps):
    """`TrainingSteps` that replay a recorded step."""

    def __init__(self, spec: TrialSpec, context: TrainingContext, images: tuple[int, ...]) -> None:
        super().__init__(spec, context, images)
        # A recording would read cached casts after they are freed.
        self._autocast = partial(use_precision, self._device.type, self._recipe.precision, cache=False)
        self._rate, self._weight, self._loss = (torch.zeros((), device=self._device) for _ in range(3))
        self._held: dict[str, Tensor] = {}
        """The batch that the step reads, by name; fixed memory."""
        self._recording: torch.cuda.CUDAGraph | None = None
        self._gradients: list[Tensor | None] = []
        """Gradients of the recording."""
        self._taken = 0
        """Number of the training's steps in this process."""

    @property
    def is_recorded(self) -> bool:
        """Whether the last steps were replayed from a recording."""
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
        """Take a plain step; the last one before the recording detects what a recording cannot repeat."""
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
        """Copy the step's batch to the memory that the step reads."""
        inputs, labels, more = self._make_batch(step)
        named = {"inputs": inputs, "labels": labels, **more}
        if not self._held:
            self._held = {name: torch.empty_like(values) for name, values in named.items()}  # strides included
        for name, values in named.items():
            self._held[name].copy_(values)

    def _run_step(self) -> None:
        """Run one step from the network to the average, without waiting for the device."""
        more = dict(self._held)
        self._loss.copy_(self._update_weights(more.pop("inputs"), more.pop("labels"), more))
        self.average.update_by(self.model, self._weight)

    def _get_random_state(self) -> Tensor:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.get_rng_state(self._device) if on_gpu else torch.get_rng_state()

    def _record_step(self) -> None:
        """Record a step, compare it with a plain one, and keep the plain one's weights."""
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
            # The error at the end of a recording does not contain the first cause, which is its context.
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
    """Return the changing tensors on which an evaluation, now or later, depends, by kind.

    Args:
        model: the trained network.
        average: the network with averaged weights.
    """
    return {
        "weights": [parameter.detach() for parameter in model.parameters()],
        "their average": [parameter.detach() for parameter in average.parameters()],
        "BatchNorm statistics": [b for network in (model, average) for b in network.buffers() if b.is_floating_point()],
    }


def measure_change_distance(before: Sequence[Tensor], recorded: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Return the norm of the difference between two changes of tensors, as a share of the plain change's norm.

    Infinite if only the recorded change is not finite. 0 if the plain change is not finite: the training diverges
    without a recording, too.
    """
    length, apart = _compute_distance(before, plain), _compute_distance(recorded, plain)
    if not math.isfinite(length):
        return 0.0
    if not math.isfinite(apart):
        return math.inf
    return apart / length if length else 0.0 if not apart else math.inf


def _compute_distance(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the norm of the difference, waiting for a GPU only once for all tensors."""
    if not some:
        return 0.0
    norms = torch.stack(torch._foreach_norm(torch._foreach_sub(list(some), list(others))))
    return float(norms.double().square().sum().sqrt())


@contextmanager
def record_waits(device: torch.device) -> Iterator[list[warnings.WarningMessage]]:
    """Record torch's warnings about operations that make the processor wait for the GPU."""
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
    """Return a device's stream for recordings and the steps before them; libraries keep memory per stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _use_side_stream(device: torch.device) -> Iterator[None]:
    """Run the block on the recordings' stream; before and after, this stream and the current one are synchronised."""
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
