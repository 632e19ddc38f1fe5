"""A worker process: trains what it is told and reports each evaluation, over one pipe, until the parent is gone.

Parent → worker: ("weights", encoder), answered by ("weights", bool); ("configure", Conditions, device, threads); then
any number of ("train", TrialSpec), each followed by one bool per evaluation that is not the last (True = go on,
False = stop here). Closing the pipe ends it.

Worker → parent: ("hardware", Hardware) once; ("ready",) when configured; per training ("evaluation", Evaluation,
last: bool)… and ("result", TrialResult). A training that raises gives a result in state `failed`; a configuration
that raises gives ("refused", text).
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection

from sweeper.data.store import PixelStore, open_store
from sweeper.errors import SweeperError
from sweeper.records import Collapse, Conditions, Evaluation, TrialResult, TrialSpec
from sweeper.training.engine import Training
from sweeper.training.hardware import probe, settle_process
from sweeper.training.model import build_model, imagenet_cached

WATCH_SECONDS = 1.0
"""How often a worker checks that its parent is alive."""


def _die_with(parent: int) -> None:
    """End this process soon after the parent ended, even amid a training step: the parent may have been killed -9."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def failed(
    spec: TrialSpec, evaluations: tuple[Evaluation, ...], reason: str, seconds: float, device: str
) -> TrialResult:
    """Result of a training that raised: its reason, and what was seen before."""
    return TrialResult(
        spec=spec,
        state="failed",
        value=None,
        evaluations=evaluations,
        collapse=Collapse.NONE,
        collapse_at_default=Collapse.NONE,
        reason=reason,
        seconds=seconds,
        seconds_per_step=None,
        device=device,
    )


def explain(error: BaseException) -> str:
    """One line for people: what was raised, and where in our code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}{where}"


def serve(pipe: Connection, device: str, parent: int) -> None:
    """Entry point of the process. `device` is what the user asked for; ends when the pipe closes or says stop."""
    # Ctrl-C, and often SIGTERM, reach the whole process group; the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with(parent)
    try:
        pipe.send(("hardware", probe(device)))
        while (order := pipe.recv())[0] == "weights":
            pipe.send(("weights", imagenet_cached(order[1])))
        _, conditions, place, threads = order
        settle_process(threads)
        store = open_store(conditions.dataset.store)
        check_model(conditions)
        pipe.send(("ready",))
        while True:
            order = pipe.recv()
            _train(pipe, order[1], conditions, store, place)
    except SweeperError as error:
        pipe.send(("refused", str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def check_model(conditions: Conditions) -> None:
    """Build the network once, so that a wrong name is refused before anything is trained."""
    dataset = conditions.dataset
    build_model(
        conditions.recipe,
        channels=dataset.channels,
        class_pixels=dataset.class_pixels(),
        task=dataset.task,
        seed=conditions.seed,
    )


def _train(pipe: Connection, spec: TrialSpec, conditions: Conditions, store: PixelStore, device: str) -> None:
    began = time.perf_counter()
    seen: list[Evaluation] = []
    training: Training | None = None
    try:
        training = Training(spec, conditions, store, device)
        stopped = False
        while not training.finished and not stopped:
            evaluation = training.advance()
            seen.append(evaluation)
            pipe.send(("evaluation", evaluation, training.finished))
            if not training.finished:
                stopped = not pipe.recv()
        result = training.result("pruned" if stopped else "complete")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        result = failed(spec, tuple(seen), explain(error), time.perf_counter() - began, device)
    training = None  # free the networks before the next ones are made
    gc.collect()
    pipe.send(("result", result))
