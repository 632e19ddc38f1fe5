"""Worker process: runs training jobs and reports each rung, over one pipe, until the parent is gone.

Parent → worker: ("hardware",), answered by ("hardware", Hardware); ("time", Conditions, precisions, threads), answered
by ("time", seconds of a step in each); ("configure", Conditions, device, threads, folder of the checkpoints), answered
by ("ready", None); then any number of `TrainingJob`s, one at a time, each with its answer (core/events.py). Closing the
pipe ends the worker.

A wrong configuration is answered by ("refused", text); a configuration that fails in this process, and any later error
between jobs, by ("broken", text). Both end the process.
"""

from __future__ import annotations

import gc
import os
import signal
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.own_metric import check_metric, register_metric
from sweeper.core.records import Conditions
from sweeper.core.tasks import RULES
from sweeper.losses.own_loss_module import check_own_loss
from sweeper.losses.own_losses import register_user_losses
from sweeper.system.streams import make_streams_tolerant
from sweeper.training.failure_causes import explain_failure, is_process_fault
from sweeper.training.hardware import choose_gpu, probe_device, settle_numerics, settle_process
from sweeper.training.job import WorkerTrainings
from sweeper.training.model import build_model, require_answer
from sweeper.training.own_model import check_own
from sweeper.training.probe_steps import measure_step_seconds, warm_up_device
from sweeper.training.training_context import open_context

IDLE_SECONDS = 0.2
"""Seconds without a job after which the training in memory is saved to its checkpoint."""


def serve_jobs(pipe: Connection, device: str) -> None:
    """Run the worker until the pipe closes; `device` is the user's choice."""
    # Ctrl-C, a closed terminal and often SIGTERM reach the whole process group; only the parent decides, and ends its
    # workers.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    make_streams_tolerant()
    os.dup2(2, 1)  # libraries' prints are no result
    try:
        while (order := pipe.recv())[0] != "configure":
            pipe.send((order[0], probe_device(device) if order[0] == "hardware" else measure_step_seconds(*order[1:])))
        trainings = prepare_trainings(*order[1:])
        pipe.send(("ready", None))
        while True:
            if not pipe.poll(IDLE_SECONDS):
                trainings.save_last_training()
            pipe.send(trainings.run_job(pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        if is_process_fault(error):
            pipe.send(("broken", explain_failure(error)))
        elif isinstance(error, SweeperError):
            pipe.send(("refused", str(error)))
        else:
            raise


def prepare_trainings(conditions: Conditions, place: str, threads: int | None, checkpoints: Path) -> WorkerTrainings:
    """Prepare this process for trainings, and test all they need; the same for every executor.

    Args:
        conditions: the study's conditions.
        place: a torch device.
        threads: threads of a CPU; None = torch's number.
        checkpoints: folder of the paused trainings.

    Raises:
        UsageError: if the network cannot be built, or the user's own code cannot be used.
        Exception: for any other error, such as lack of memory; see `is_process_fault`.
    """
    if threads is not None:
        settle_process(threads)
    if conditions.recipe.engine == "deterministic":
        settle_numerics(True)
    choose_gpu(place)
    check_model(conditions)
    context = open_context(conditions, place)
    if context.device.type == "cuda":
        warm_up_device(context)
    # The libraries' objects live until the end; garbage collections of them took 0.15 to 0.5 s after each training.
    # Do not collect before: this would copy the pages shared with the fork server.
    gc.freeze()
    return WorkerTrainings(context, checkpoints)


def check_model(conditions: Conditions) -> None:
    """Build the network once, and test the user's own code, so that faults show before any training.

    Raises:
        UsageError: with every problem.
    """
    register_user_losses(conditions.losses)
    register_metric(conditions.recipe.own_metric)
    problems: list[str] = []
    dataset, metric = conditions.dataset, conditions.recipe.own_metric
    for check in (
        partial(_check_network, conditions),
        *(() if metric is None else (partial(check_metric, metric, len(dataset.classes)),)),
        *(partial(check_own_loss, loss, dataset.task, len(dataset.classes)) for loss in conditions.losses),
    ):
        try:
            check()
        except UsageError as error:
            if is_process_fault(error):
                raise
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))


def _check_network(conditions: Conditions) -> None:
    """Build the network once, to refuse early a wrong name, or a network that fails on the smallest image."""
    dataset, recipe = conditions.dataset, conditions.recipe
    stride = recipe.stride
    height, width = (
        -(-min(sides) // stride) * stride for sides in zip(*((p.height, p.width) for p in dataset.images), strict=True)
    )
    if recipe.model is not None:
        check_own(
            recipe.model,
            channels=dataset.channels,
            outputs=RULES[dataset.task].count_channels(len(dataset.classes)),
            sizes=[(recipe.size, recipe.size), (recipe.size, recipe.size + stride), (height, width)],
            seed=conditions.seed,
        )
        return
    model = build_model(
        recipe, channels=dataset.channels, bias=RULES[dataset.task].compute_bias(dataset), seed=conditions.seed
    )
    require_answer(model.eval(), recipe, dataset.channels, height, width)
