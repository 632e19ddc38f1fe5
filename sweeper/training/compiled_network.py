"""The network as `torch.compile` makes it: fewer and larger kernels, for a minute or more before the first training.

A worker compiles once, before it is ready: networks of one structure share what was compiled, whatever their weights,
and torch keeps it on disk (`TORCHINDUCTOR_CACHE_DIR`) for the next process. Evaluations, whose images have many sizes,
are not compiled. A compiled step rounds otherwise than a plain one, so that all trainings of a study are compiled, or
none: a network that needs another compilation for each training or step is refused, as torch compiles few of them and
then continues silently.
"""

from __future__ import annotations

import gc
import warnings

import torch

from sweeper.core.errors import SweeperError, UsageError
from sweeper.training.failure_causes import explain_failure, is_process_fault
from sweeper.training.job import WorkerContext
from sweeper.training.probe_steps import make_probe_steps


def compile_for_study(context: WorkerContext) -> None:
    """Compile what the study's trainings need.

    What was compiled for an earlier study of the process goes.

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
    if context.device != "cpu":
        torch.cuda.empty_cache()
