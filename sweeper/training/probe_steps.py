"""Test steps before the first training: how long they take, and whether they work."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter

from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data.folds import get_split
from sweeper.training.graph_steps import choose_steps_class
from sweeper.training.hardware import settle_process
from sweeper.training.training_context import TrainingContext, open_context
from sweeper.training.training_steps import TrainingSteps


def make_probe_steps(context: TrainingContext, steps: int) -> TrainingSteps:
    """Make the steps of a training with the study's network, batch, crop and engine, and cross-entropy.

    Args:
        context: shared by the trainings of this process.
        steps: length of the training.
    """
    conditions = context.conditions
    seed = conditions.seed
    spec = TrialSpec(purpose="search", number=0, family="cross_entropy", params={}, lr=1e-3, seed=seed, steps=steps)
    images = get_split(conditions, seed).train
    return choose_steps_class(conditions.recipe.engine, context.device)(spec, context, images)


def warm_up_device(context: TrainingContext) -> None:
    """Take two unused steps, so that no training's time includes the ten seconds in which a GPU's libraries start.

    Errors are disregarded: they will recur, and be reported, in the trainings.
    """
    with suppress(Exception):
        make_probe_steps(context, steps=4).take_steps(0, 2)


# --- Seconds of a step in each precision, on a CPU ---

PAIRS = 15
"""Number of steps timed in each precision."""
LONG = 10.0
"""Seconds after which fewer steps are enough."""
HOPELESS = 2.0
"""A precision is not timed further if each of its first two steps took this many times as long as the other's."""


def measure_step_seconds(
    conditions: Conditions, precisions: Sequence[Precision], threads: int | None = None
) -> dict[Precision, float]:
    """Measure the seconds of a step in each precision on this CPU, with cross-entropy as the loss.

    A processor with bfloat16 instructions may be slower in bfloat16: an Intel Xeon with avx512_bf16 and no AMX took 1.5
    times as long as in float32. All workers therefore time the step at the same time, as they will train, in
    alternating precisions.

    The first precision's result is its median. Any other's is that median times the median ratio of its step to the
    first precision's step just before it, because other load slows both steps of a pair alike: in ten measurements on a
    busy machine these ratios had a standard deviation of 0.014, ratios of medians 0.033.

    Args:
        conditions: the study's conditions.
        precisions: the precisions to time.
        threads: threads of this process; None = unchanged.

    Returns:
        Empty if steps fail: preparing the trainings reports the error.
    """
    if threads is not None:
        settle_process(threads)
    try:
        return _time_step(conditions, precisions)
    except Exception:
        return {}
    finally:
        gc.collect()


def _time_step(conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
    work = {}
    for precision in precisions:
        recipe = conditions.recipe.model_copy(update={"precision": precision, "encoder_weights": "none"})
        timed_conditions = conditions.model_copy(update={"recipe": recipe})
        work[precision] = make_probe_steps(open_context(timed_conditions, "cpu"), PAIRS + 2)
        work[precision].take_steps(0, 1)  # the first step chooses kernels
    seconds: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    began = perf_counter()
    for done in range(1, PAIRS + 1):
        for precision, steps_of_it in work.items():
            start = perf_counter()
            steps_of_it.take_steps(done, done + 1)
            seconds[precision].append(perf_counter() - start)
        ratios = [min(b / a for a, b in zip(seconds[precisions[0]], times, strict=True)) for times in seconds.values()]
        is_hopeless = done > 1 and max(ratios) > HOPELESS
        if is_hopeless or perf_counter() - began > LONG:
            break
    return time_steps_in_pairs(seconds)


def time_steps_in_pairs(times: Mapping[Precision, Sequence[float]]) -> dict[Precision, float]:
    """Return a step's seconds in each precision, from alternating steps (see `measure_step_seconds`)."""
    first = next(iter(times.values()))
    shares = {p: statistics.median(b / a for a, b in zip(first, seconds, strict=True)) for p, seconds in times.items()}
    return {precision: share * statistics.median(first) for precision, share in shares.items()}
