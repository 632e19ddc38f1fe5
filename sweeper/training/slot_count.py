"""How many trainings a GPU does best at a time: measured for a few seconds before the first one.

A step of a small network leaves most of a large GPU idle. Two, four or eight trainings whose recorded steps are played
on streams of their own share it, as far as memory goes, and as long as twice as many take `GAIN` times as many steps in
the same time. Those that joined must have changed their weights as the first one did that was alone; where they did
not, one at a time is what is left. Not yet run on a GPU: the logic is tested with a processor's steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from sweeper.core.errors import UsageError
from sweeper.training.failure_causes import device_lost, explain, out_of_memory
from sweeper.training.graph_steps import KEPT, beside
from sweeper.training.job import WorkerContext
from sweeper.training.probe_steps import probe_steps
from sweeper.training.slots import own_stream
from sweeper.training.step_choice import one_by_one, why_not
from sweeper.training.training_steps import TrainingSteps
from sweeper.training.weight_change import change_apart

MOST_SLOTS = 8
GAIN = 1.15
"""What twice as many trainings must take, in steps per second of all of them together."""
SHARE = 0.6
"""Of the free memory that the trainings may fill: evaluations and cuDNN's choices come on top."""
SEGMENT = 24
"""Steps that are timed at a time; the first so many record the step and are not."""
SEGMENTS = 5
TOLERANCE = 1.0
"""Of a training beside others, as a share of the length of its change of the weights after some fifty steps, over which
the order of sums alone sets two apart: what another stream wrote to is farther off."""
SECONDS = 30.0
"""The most that the next doubling may take by what was measured: a worker that starts is waited for."""


@dataclass(frozen=True)
class SlotCount:
    """What was found."""

    slots: int
    reason: str
    """For people, in one sentence."""


def slots_that_pay(context: WorkerContext) -> SlotCount:
    """As many slots as pay on the device of these trainings; 1 where it is no GPU, or steps cannot be recorded."""
    device, recipe = torch.device(context.device), context.conditions.recipe
    reason = why_not(device)
    if one_by_one(recipe, device) or reason is not None:
        return SlotCount(1, f"one training at a time: {reason or 'steps are taken one by one'}")
    free, _ = torch.cuda.mem_get_info(device)
    before = torch.cuda.memory_reserved(device)
    try:
        return count_slots(
            lambda: probe_steps(context, SEGMENT * SEGMENTS, SEGMENTS),
            device=device,
            room=int(SHARE * free),
            used=lambda: torch.cuda.memory_reserved(device) - before,
        )
    except (RuntimeError, UsageError) as error:  # out of memory is one, too
        if device_lost(error) and not out_of_memory(error):
            raise
        return SlotCount(1, f"one training at a time: trying several ended with {explain(error)}")
    finally:
        gc.collect()
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


class _Probe:
    """A training that is timed, segment by segment."""

    def __init__(self, steps: TrainingSteps, device: torch.device) -> None:
        self.steps, self._device, self._next = steps, device, 0
        self._stream = own_stream(str(device)) if device.type == "cuda" else None

    def segment(self) -> Generator[None, None, None]:
        """Its next segment, step by step."""
        first, self._next = self._next, self._next + SEGMENT
        work = self.steps.running(first, self._next)
        while True:
            try:
                with self._on_stream():
                    next(work)
            except StopIteration:
                return
            yield

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def weights(self) -> list[Tensor]:
        """A copy, as they are now."""
        return [parameter.detach().clone() for parameter in self.steps.model.parameters()]


def count_slots(
    make: Callable[[], TrainingSteps],
    *,
    device: torch.device,
    room: int,
    used: Callable[[], int],
    most: int = MOST_SLOTS,
    clock: Callable[[], float] = perf_counter,
) -> SlotCount:
    """Double the trainings as long as it pays.

    Args:
        make: gives the steps of the same training each time, `SEGMENT * SEGMENTS` of them.
        device: where.
        room: bytes that they may fill together.
        used: bytes that they fill now.
        most: slots.
        clock: seconds.

    Raises:
        RuntimeError: what steps raise.
    """
    probes = [_Probe(make(), device)]
    begin = probes[0].weights()
    _together(probes, device)  # what happens once: recordings, choice of kernels
    if not probes[0].steps.recorded:
        return SlotCount(1, f"one training at a time: {probes[0].steps.fault}")
    # Later recordings share the memory of the first, but for their gradients.
    gradients = sum(parameter.nbytes for parameter in probes[0].steps.model.parameters())
    each, best = max(1, used() + (KEPT - 1) * gradients), 1
    rates = {1: _rate(probes, device, clock)}
    alone, fault = probes[0].weights(), ""
    while (wanted := 2 * len(probes)) <= most and wanted * each <= room:
        if 2 * wanted * SEGMENT / rates[best] > SECONDS:  # two segments of each, no faster than now
            break
        try:
            joined = [_joined(make(), device) for _ in range(len(probes))]
            rates[wanted] = _rate([*probes, *joined], device, clock)
        except UsageError as error:
            fault = f"{error}"  # as many as before were recorded
            break
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            room = 0  # as many as before had some
            break
        probes += joined
        apart = max(change_apart(begin, probe.weights(), alone) for probe in joined)
        if not apart <= TOLERANCE:
            return SlotCount(
                1, f"one training at a time: beside others a training differs by {apart:.0%} of its length"
            )
        if rates[wanted] < GAIN * rates[best]:
            break
        best = wanted
    if best == 1:
        why = "two take as long as one after the other" if len(rates) > 1 else "memory has no room for two"
        if len(rates) == 1 and 2 * each <= room:
            why = f"a step takes {1 / rates[1]:.1f} s, too long to try two"
        if fault:
            why = f"beside another a training's steps are not recorded: {fault}"
        return SlotCount(1, f"one training at a time: {why}")
    return SlotCount(
        best, f"{best} trainings at a time: together they take {rates[best] / rates[1]:.1f} times the steps of one"
    )


def _joined(steps: TrainingSteps, device: torch.device) -> _Probe:
    """Another training, whose steps are recorded beside others.

    Raises:
        UsageError: if they cannot be.
    """
    probe = _Probe(steps, device)
    with beside(True):  # else want of memory would be a reason not to record
        _together([probe], device)
    if not steps.recorded:
        raise UsageError(str(steps.fault))
    return probe


def _rate(probes: list[_Probe], device: torch.device, clock: Callable[[], float]) -> float:
    """Steps per second of all together, in their next segments."""
    _wait(device)
    began = clock()
    _together(probes, device)
    return len(probes) * SEGMENT / max(1e-9, clock() - began)


def _together(probes: list[_Probe], device: torch.device) -> None:
    work = [probe.segment() for probe in probes]
    while work:
        work = [one for one in work if next(one, _ENDED) is not _ENDED]
    _wait(device)


_ENDED = object()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
