"""Time of the recipe's own training step in each precision: measured on a CPU before the first training.

A processor with instructions for bfloat16 may be slower in it: an Intel Xeon with avx512_bf16 and no AMX took 1.5 times
as long as in float32. So the step itself is timed, in turns, by all workers at a time, as they will train.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.data.store import open_store
from sweeper.training.hardware import settle_process
from sweeper.training.job import make_worker_context
from sweeper.training.probe_steps import make_probe_steps

PAIRS = 15
"""Number of steps that are timed in each precision."""
PLAIN = {"compiled": False, "encoder_weights": "none"}
"""Settings that start slowly, and change little in the comparison; replaced in the measurement."""
LONG = 10.0
"""After this many seconds fewer steps are enough, as each takes long."""


def measure_step_seconds(
    conditions: Conditions, precisions: Sequence[Precision], threads: int | None = None
) -> dict[Precision, float]:
    """Measure the seconds that a step takes on this CPU, with cross-entropy as the loss.

    Of the first precision the median; of each other that median times the median of its share in the step of the first
    just before it. What else the machine does slows both steps of such a pair alike: of ten measurements on a busy
    machine these shares had a standard deviation of 0.014, those of medians 0.033.

    Args:
        conditions: the study's; the network is not compiled for this.
        precisions: that are timed, by turns.
        threads: that this process is given; None = as many as it has.

    Returns:
        None of them where steps cannot be taken: what is wrong is said where trainings are made ready.
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
    store, work = open_store(conditions.dataset.store), {}
    for precision in precisions:
        recipe = conditions.recipe.model_copy(update={"precision": precision, **PLAIN})
        timed_conditions = conditions.model_copy(update={"recipe": recipe})
        work[precision] = make_probe_steps(make_worker_context(timed_conditions, store, "cpu", Path()), PAIRS + 2)
        work[precision].take_steps(0, 1)  # the first step chooses kernels
    seconds: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    began = perf_counter()
    for done in range(1, PAIRS + 1):
        for precision, steps_of_it in work.items():
            start = perf_counter()
            steps_of_it.take_steps(done, done + 1)
            seconds[precision].append(perf_counter() - start)
        if perf_counter() - began > LONG:
            break
    return time_steps_in_pairs(seconds)


def time_steps_in_pairs(times: Mapping[Precision, Sequence[float]]) -> dict[Precision, float]:
    """Return a step's seconds in each precision, from steps taken by turns (see `measure_step_seconds`)."""
    first = next(iter(times.values()))
    shares = {p: statistics.median(b / a for a, b in zip(first, seconds, strict=True)) for p, seconds in times.items()}
    return {precision: share * statistics.median(first) for precision, share in shares.items()}
