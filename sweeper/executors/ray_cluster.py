"""A Ray cluster: joining or starting it, its resources, and the actors that trainings run in.

Ray ends the process that uses it when the raylet or the cluster's head is gone: see
`sweeper.executors.separate_process`.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: disables its usage reports
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.job_config import JobConfig

from sweeper.core.errors import SweeperError, UsageError, get_cause
from sweeper.core.events import WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.executors.protocol import Watchdog
from sweeper.executors.ray_actors import START_SECONDS, RayActor, RayExecutor, RayTrainer, format_error_kind
from sweeper.system.machine import read_requested_threads

REACH_SECONDS = 10.0
MOST = 64
"""Actors at most, unless --workers says otherwise."""


def compute_gpu_share(gpus: int, actors: int | None) -> float:
    """Return an actor's share of a GPU: a whole one, or less if there are more actors than GPUs; 0 without a GPU.

    Args:
        gpus: GPUs of the cluster.
        actors: None = one per GPU.
    """
    if not gpus:
        return 0.0
    on_one = -(-(actors or gpus) // gpus)
    return 1.0 if on_one <= 1 else math.floor(10_000 / on_one) / 10_000  # Ray counts in units of 1/10,000


class RayBackend:
    """A Ray cluster: an existing one, or a new one on only this machine."""

    def __init__(
        self,
        device: str,
        count: int | None,
        cores: int,
        address: str,
        log: Callable[[str], None],
        *,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Connect to the cluster, or start one.

        Args:
            device: the requested device.
            count: actors; None = one per GPU of the cluster, or one per core, at most 64.
            cores: processor cores of this machine, for a new cluster.
            address: address of an existing cluster; `local` = a new one, which only this machine reaches.
            log: receives the losses of actors.
            watchdog: detects trainings that hang.

        Raises:
            UsageError: if there is no cluster at the address.
        """
        self._device, self._count, self._log, self._threads = device, count, log, read_requested_threads() or 1
        self._watchdog = watchdog or Watchdog()
        self._opened: RayExecutor | None = None
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        options: dict[str, Any] = {"address": address}
        if address == "local":  # an existing cluster has its own
            options |= {"num_cpus": cores, "include_dashboard": False}
        try:
            _check_reachable(address)
            # Ray puts the working folder first on its workers' path, unless it is a client's: its files are no modules.
            options["job_config"] = JobConfig(_client_job=True)
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            text = get_cause(error, 200)
            raise UsageError(
                f"RAY_ADDRESS={address} must be a Ray cluster that answers, got: {text}. Start one with "
                "`ray start --head`, or unset the variable to train on this machine"
            ) from error
        finally:
            for number, handler in before.items():  # Ray handles SIGTERM itself; the sweep ends cleanly on it
                signal.signal(number, handler)

    @property
    def _gpus(self) -> int:
        return 0 if self._device == "cpu" else _get_total("GPU")

    def _make_actor(self) -> RayActor:
        share = compute_gpu_share(self._gpus, self._count)
        options = {"num_cpus": self._threads, "num_gpus": share, "scheduling_strategy": "SPREAD"}
        return RayActor(ray.remote(RayTrainer).options(**options).remote(), None)

    @cached_property
    def _first(self) -> RayActor:
        return self._make_actor()

    @cached_property
    def _hardware(self) -> WorkerHardware:
        hardware: WorkerHardware = _ask_actor(self._first.handle.get_hardware.remote(self._device))
        return hardware

    def get_hardware(self) -> WorkerHardware:
        """Return the hardware of the first actor's node."""
        return self._hardware

    @property
    def layout(self) -> WorkerLayout:
        """The requested number of actors, else as many as there is room for; and the threads of each."""
        count = self._count or self._gpus or max(1, min(_get_total("CPU") // self._threads, MOST))
        return WorkerLayout(count, self._threads)

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the step times that the first actor measures."""
        arguments = (_make_absolute(conditions), precisions, self._threads)
        try:
            seconds: dict[Precision, float] = _ask_actor(self._first.handle.measure_step_seconds.remote(*arguments))
        except SweeperError:  # the cause is reported when actors are made ready
            return {}
        return seconds

    def open(self, conditions: Conditions, checkpoints: Path) -> RayExecutor:
        """Configure the first actor, and start the others, which come as Ray finds room for them.

        Raises:
            UsageError: if the first refuses.
        """
        hardware = self.get_hardware()
        conditions = _make_absolute(conditions)
        arguments = (conditions, hardware.device, self._threads, checkpoints.resolve(), hardware.precision)

        def start() -> RayActor:
            actor = self._make_actor()
            actor.pending = actor.handle.configure.remote(*arguments)
            return actor

        first, seconds = self._first, START_SECONDS
        if (refusal := first.settle(_ask_actor(first.handle.configure.remote(*arguments), seconds))) is not None:
            raise UsageError(refusal)
        actors = [first, *(start() for _ in range(self.layout.workers - 1))]
        self._opened = RayExecutor(actors, start, self._log, self._watchdog, conditions.recipe, start_seconds=seconds)
        return self._opened

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        if self._opened is not None:
            self._opened.close()
        ray.shutdown()


def _make_absolute(conditions: Conditions) -> Conditions:
    """Return the conditions with absolute paths: actors have another working folder."""
    dataset = conditions.dataset
    places = {"store": str(Path(dataset.store).resolve())}
    if not dataset.synthetic:
        places["source"] = str(Path(dataset.source).expanduser().resolve())
    return conditions.model_copy(update={"dataset": dataset.model_copy(update=places)})


def _ask_actor(reference: Any, seconds: float = START_SECONDS) -> Any:
    """Return the first actor's answer, waiting at most `seconds`.

    Raises:
        SweeperError: if it does not come up in time, or raises.
    """
    try:
        return ray.get(reference, timeout=seconds)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, SweeperError) else SweeperError(format_error_kind(error)) from None
    except ray.exceptions.ActorDiedError as error:
        raise SweeperError(
            f"a Ray actor ended while it was made ({format_error_kind(error)}); each node needs this version of "
            "sweeper, and enough memory for it"
        ) from error
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise SweeperError(
            f"no Ray actor came up within {seconds:.0f} s ({format_error_kind(error)}); see `ray status` for what the "
            "cluster has room for"
        ) from error


def _check_reachable(address: str) -> None:
    """Check that HOST:PORT accepts connections: Ray itself would try for a minute.

    Raises:
        OSError: if it does not.
    """
    if match := re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:([0-9]+)", address):
        socket.create_connection((match[1], int(match[2])), timeout=REACH_SECONDS).close()


def _get_total(resource: str) -> int:
    """Return the whole cluster's amount of a resource."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(resources.get(resource, 0))
