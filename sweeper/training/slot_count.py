"""How many trainings a GPU does best at a time: measured for a few seconds before the first one.

A step of a small network leaves most of a large GPU idle. Two, four or eight trainings whose recorded steps are played
on streams of their own share it, as far as memory goes, and as long as twice as many take `GAIN` times as many steps in
the same time. Those that joined must have learned what the first one learned alone, as exactly as that one learned it
twice; where they did not, one at a time is what is left. Not yet run on a GPU: the logic is tested with a processor's
steps.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from sweeper.core.errors import UsageError
from sweeper.training.failure_causes import device_lost, explain, out_of_memory
from sweeper.training.graph_steps import KEPT
from sweeper.training.job import WorkerContext
from sweeper.training.probe_steps import probe_steps
from sweeper.training.slots import own_stream
from sweeper.training.step_choice import one_by_one, why_not
from sweeper.training.training_steps import TrainingSteps
from sweeper.training.weight_change import changes_apart, evaluated

MOST_SLOTS = 8
GAIN = 1.15
"""What twice as many trainings must take, in steps per second of all of them together."""
SHARE = 0.6
"""Of the free memory that the trainings may fill: evaluations and cuDNN's choices come on top."""
SEGMENT = 24
"""Steps that are timed at a time; the first so many record the step and are not."""
SEGMENTS = 5
TIMES = 2.0
"""A training beside others may be so many times as far from itself alone as that is from itself alone once more, which
the order of sums decides."""
EXACT = 0.01
"""So far it may be where a repetition is exact: a share of the length of what a segment's steps change."""
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
        return SlotCount(1, f"one training at a time: {reason or 'recorded steps alone are measured (--engine auto)'}")
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
        """What is begun in the block goes to its own stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def learned(self) -> dict[str, list[Tensor]]:
        """A copy of all that is evaluated, as it is now."""
        shown = evaluated(self.steps.model, self.steps.average.model)
        with self._on_stream():
            found = {name: [tensor.clone() for tensor in tensors] for name, tensors in shown.items()}
        _wait(self._device)
        return found

    def state(self) -> tuple[dict[str, Any], int]:
        """A copy of all that its next step depends on."""
        with self._on_stream():
            found = copy.deepcopy(self.steps.state()), self.steps.average.updates
        _wait(self._device)
        return found

    def take_second_segment_from(self, state: tuple[dict[str, Any], int]) -> None:
        """Go on where a training was after its first segment."""
        with self._on_stream():
            self.steps.restore(*state)
        self._next = SEGMENT


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
    _together(probes, device)  # what happens once: recordings, choice of kernels
    if not probes[0].steps.recorded:
        return SlotCount(1, f"one training at a time: {probes[0].steps.fault}")
    # Later recordings share the memory of the first, but for their gradients.
    gradients = sum(parameter.nbytes for parameter in probes[0].steps.model.parameters())
    each, best = max(1, used() + (KEPT - 1) * gradients), 1
    begin, start = probes[0].learned(), probes[0].state()
    rates = {1: _rate(probes, device, clock)}
    alone, fault = probes[0].learned(), ""
    probes[0].take_second_segment_from(start)
    _together(probes, device)
    repeated = _apart(begin, probes[0], alone)
    while (wanted := 2 * len(probes)) <= most and wanted * each <= room:
        if 2 * wanted * SEGMENT / rates[best] > SECONDS:  # two segments of each, no faster than now
            break
        try:
            joined = [_joined(make(), start, device) for _ in range(len(probes))]
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
        apart = max(_apart(begin, probe, alone) for probe in joined)
        if not apart <= max(EXACT, TIMES * repeated):
            return SlotCount(
                1,
                f"one training at a time: beside others a training differs by {apart:.1%} of its length from what it "
                f"is alone, and by {repeated:.1%} where it is repeated alone",
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


def _joined(steps: TrainingSteps, start: tuple[dict[str, Any], int], device: torch.device) -> _Probe:
    """Another training, whose steps are recorded, and which is where the first one was then.

    Raises:
        UsageError: if they cannot be.
    """
    probe = _Probe(steps, device)
    _together([probe], device)
    if not steps.recorded:
        raise UsageError(str(steps.fault))
    probe.take_second_segment_from(start)
    return probe


def _apart(begin: dict[str, list[Tensor]], probe: _Probe, alone: dict[str, list[Tensor]]) -> float:
    """How far what a training learned since `begin` is from what one learned alone, as a share of its length."""
    return max(changes_apart(begin, probe.learned(), alone).values())


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
