"""Training steps that are tried before the first training: by what they cost, and whether they can be taken at all."""

from __future__ import annotations

import gc
import statistics
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter

import torch

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data.folds import get_split
from sweeper.training.failure_causes import explain_failure, is_process_fault
from sweeper.training.graph_steps import choose_steps_class
from sweeper.training.hardware import settle_process
from sweeper.training.resident_store import TrainingContext, open_context
from sweeper.training.training_steps import TrainingSteps


def make_probe_steps(context: TrainingContext, steps: int, seed: int | None = None) -> TrainingSteps:
    """Return the steps of a training with the study's network, batch, crop and engine, and cross-entropy.

    Args:
        context: what the trainings of this process share.
        steps: that the training may take.
        seed: of the training; None = the study's.
    """
    conditions = context.conditions
    seed = conditions.seed if seed is None else seed
    spec = TrialSpec(purpose="search", number=0, family="cross_entropy", params={}, lr=1e-3, seed=seed, steps=steps)
    images = get_split(conditions, spec.seed, spec.fold).train
    return choose_steps_class(conditions.recipe.engine, context.device)(spec, context, images)


def warm_up_device(context: TrainingContext) -> None:
    """Take two steps that nobody wants: what a GPU's libraries do first, for ten seconds, is no training's time.

    What goes wrong here goes wrong in the trainings, which say so.
    """
    with suppress(Exception):
        make_probe_steps(context, steps=4).take_steps(0, 2)


# --- What a step costs in each precision, on a CPU ---

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

    A processor with instructions for bfloat16 may be slower in it: an Intel Xeon with avx512_bf16 and no AMX took 1.5
    times as long as in float32. So the step itself is timed, in turns, by all workers at a time, as they will train.

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
    work = {}
    for precision in precisions:
        recipe = conditions.recipe.model_copy(update={"precision": precision, **PLAIN})
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
        if perf_counter() - began > LONG:
            break
    return time_steps_in_pairs(seconds)


def time_steps_in_pairs(times: Mapping[Precision, Sequence[float]]) -> dict[Precision, float]:
    """Return a step's seconds in each precision, from steps taken by turns (see `measure_step_seconds`)."""
    first = next(iter(times.values()))
    shares = {p: statistics.median(b / a for a, b in zip(first, seconds, strict=True)) for p, seconds in times.items()}
    return {precision: share * statistics.median(first) for precision, share in shares.items()}


# --- The network as `torch.compile` makes it ---


def compile_for_study(context: TrainingContext) -> None:
    """Compile what the study's trainings need: fewer and larger kernels, for a minute or more.

    A worker compiles once, before it is ready: networks of one structure share what was compiled, whatever their
    weights, and torch keeps it on disk (`TORCHINDUCTOR_CACHE_DIR`) for the next process. What was compiled for an
    earlier study of the process goes. Evaluations, whose images have many sizes, are not compiled. A compiled step
    rounds otherwise than a plain one, so that all trainings of a study are compiled, or none: a network that needs
    another compilation for each training or step is refused, as torch compiles few of them and then continues silently.

    Raises:
        UsageError: if torch cannot compile the network here, or not once for all trainings and steps.
        RuntimeError: if there is not enough memory for a training step, or the device computes nothing any more.
    """
    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # a training fails; else it would continue as it is
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # the recipe says which precision
            make_probe_steps(context, steps=4).take_steps(0, 2)
            with torch.compiler.set_stance("fail_on_recompile"):
                make_probe_steps(context, steps=4, seed=context.conditions.seed + 1).take_steps(0, 3)
    except SweeperError:
        raise
    except Exception as error:
        if is_process_fault(error):
            raise
        raise UsageError(
            f"--compile needs a network that torch can compile here, once for all steps, and that ended with "
            f"{explain_failure(error)}; leave it out, or continue a study that was made with it where torch can"
        ) from error
    gc.collect()  # recorded steps refer to themselves; what they hold on a GPU is needed
    if context.device.type != "cpu":
        torch.cuda.empty_cache()
