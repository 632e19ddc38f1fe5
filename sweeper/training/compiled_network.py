"""The network as `torch.compile` makes it: fewer and larger kernels, for a minute or more before the first training.

A worker compiles once, before it is ready: networks of one structure share what was compiled, whatever their weights,
and torch keeps it on disk (`TORCHINDUCTOR_CACHE_DIR`) for the next process. Evaluations, whose images have many sizes,
are not compiled. A compiled step rounds otherwise than a plain one, so that all trainings of a study are compiled, or
none.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from threading import RLock

from sweeper.core.errors import UsageError
from sweeper.training.failure_causes import explain, not_its_own
from sweeper.training.job import WorkerContext
from sweeper.training.probe_steps import probe_steps


def compile_first(context: WorkerContext) -> None:
    """Compile what the study's trainings need, where they are to be compiled; else do nothing.

    Raises:
        UsageError: if torch cannot compile the network here.
        RuntimeError: if there is not enough memory for a training step, or the device computes nothing any more.
    """
    if not context.conditions.recipe.compiled:
        return
    # torch would say that it found CUDA's compiler and no GPU, which is no news where a processor was chosen.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with suppress(ImportError):
        # A semaphore of tqdm's, which torch's compiler uses, would be reported as leaked when the worker is killed.
        from tqdm import tqdm  # type: ignore[import-untyped]

        tqdm.set_lock(RLock())
    try:
        probe_steps(context, steps=4).run(0, 1)
    except Exception as error:
        if not_its_own(error):
            raise
        raise UsageError(
            f"--compile needs a network that torch can compile here, and that ended with {explain(error)}; leave it "
            "out, or go on with a study that was made with it where torch can"
        ) from error
