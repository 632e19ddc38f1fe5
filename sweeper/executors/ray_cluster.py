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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: disables its usage reports
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.job_config import JobConfig

from sweeper.core.errors import ExecutorError, SweeperError, UsageError, get_cause
from sweeper.core.events import Reply, TrainingJob, WorkerHardware, WorkerLayout, WorkerLost
from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.executors.protocol import Watchdog, get_stage
from sweeper.system.clocks import get_running_seconds
from sweeper.system.machine import read_requested_threads

START_SECONDS = 300.0
"""Time limit for the first actor, after which the cluster has no room. The sweep ends if all actors were lost and none
came back within it."""


@dataclass(eq=False)
class RayActor:
    """The driver's end of one actor."""

    handle: Any
    pending: Any
    """Reference to its pending answer."""
    job: TrainingJob | None = None
    holds: TrialSpec | None = None
    """The training that it has in memory."""
    kept: bool = True
    """Whether it was asked to write that training to its checkpoint."""
    ready: bool = False
    node: str = ""

    def settle(self, answer: tuple[str, str | None]) -> str | None:
        """Record the result of `configure`: the node and a refusal, which is returned; None if there is none."""
        self.node, refusal = answer
        self.pending, self.ready = None, refusal is None
        return refusal


def format_error_kind(error: BaseException) -> str:
    """Format the kind of an error and its first line, or of the error that an actor raised.

    Ray's own texts fill a page. An error in an actor's constructor is in the last line of one, as in a traceback.
    """
    cause = getattr(error, "cause", None)
    error = cause if isinstance(cause, BaseException) else error
    text = str(error).strip()
    if raised := _RAISED.findall(text):
        return str(raised[-1][:150])
    return f"{type(error).__name__}: {(text.splitlines() or [''])[0][:150]}"


_RAISED = re.compile(r"^\w[\w.]*(?:Error|Exception)(?:: .*|$)", re.MULTILINE)
"""Line of a traceback that names the exception."""


class RayTrainer:
    """A worker that Ray places."""

    def get_hardware(self, device: str) -> WorkerHardware:
        """Return the hardware of this node."""
        from sweeper.training.hardware import probe_device

        return probe_device(device)

    def measure_step_seconds(
        self, conditions: Conditions, precisions: Sequence[Precision], threads: int
    ) -> dict[Precision, float]:
        """Return the seconds of a training step on this node's processors."""
        from sweeper.training.probe_steps import measure_step_seconds

        return measure_step_seconds(_use_local_store(conditions), precisions, threads)

    def configure(
        self, conditions: Conditions, device: str, threads: int, checkpoints: Path, expected: str
    ) -> tuple[str, str | None]:
        """Prepare trainings; return the node's id, and why it refuses, or None."""
        from sweeper.training.hardware import probe_device
        from sweeper.training.worker import prepare_trainings

        node = ray.get_runtime_context().get_node_id()
        try:
            hardware = probe_device(device)
            if (
                hardware.device != "cpu" and hardware.precision != expected
            ):  # a CPU computes in the study's precision, whichever that is
                refusal = f"a node computes in {hardware.precision}, the study in {expected}; use nodes of one kind"
                return node, refusal
            self._trainings = prepare_trainings(_use_local_store(conditions), device, threads, checkpoints)
        except SweeperError as error:
            return node, str(error)
        return node, None

    def advance(self, job: TrainingJob) -> Reply:
        """Do a job."""
        return self._trainings.run_job(job)

    def keep(self) -> None:
        """Write the training that is in memory to its checkpoint."""
        self._trainings.save_last_training()


def _use_local_store(conditions: Conditions) -> Conditions:
    """Return the conditions with the decoded images of this node."""
    from sweeper.data.variants import store_here

    dataset = conditions.dataset
    return conditions.model_copy(update={"dataset": dataset.model_copy(update={"store": str(store_here(dataset))})})


# --- The cluster ---

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
    """A Ray cluster, an existing one or a new one on only this machine, whose actors train; and executor.

    The job of a lost node or actor is lost (`WorkerLost`), and Ray starts another actor where there is room. An actor
    that hangs, or in which a training failed, is replaced, too.
    """

    workers: int
    """Target number of workers."""
    _recipe: Recipe
    _configuration: tuple[Any, ...]
    """Set by `open`, as are the others."""

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
        self._actors: list[RayActor] = []
        self._nodes: dict[str, str] = {}
        """Node of each training's checkpoint, by the training's name."""
        self._alone_since: float | None = None
        """Time since which no actor is ready; None while one is."""
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
        room = self._gpus or max(1, min(_get_total("CPU") // self._threads, MOST))
        count = self._count or room
        return WorkerLayout(count, self._threads)

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the step times that the first actor measures."""
        arguments = (_make_absolute(conditions), precisions, self._threads)
        try:
            seconds: dict[Precision, float] = _ask_actor(self._first.handle.measure_step_seconds.remote(*arguments))
        except SweeperError:  # the cause is reported when actors are made ready
            return {}
        return seconds

    def open(self, conditions: Conditions, checkpoints: Path) -> RayBackend:
        """Configure the first actor, and start the others, which come as Ray finds room for them.

        Raises:
            UsageError: if the first refuses.
        """
        hardware, self._recipe = self.get_hardware(), conditions.recipe
        places = (_make_absolute(conditions), hardware.device, self._threads, checkpoints.resolve())
        self._configuration = (*places, hardware.precision)
        configured = _ask_actor(self._first.handle.configure.remote(*self._configuration))
        if (refusal := self._first.settle(configured)) is not None:
            raise UsageError(refusal)
        self.workers = self.layout.workers
        self._actors = [self._first, *(self._start_actor() for _ in range(self.workers - 1))]
        return self

    def _start_actor(self) -> RayActor:
        """Request an actor, and configure it."""
        actor = self._make_actor()
        actor.pending = actor.handle.configure.remote(*self._configuration)
        return actor

    def free(self) -> int:
        """Return the number of idle actors.

        Raises:
            ExecutorError: if none is left, or none came back for `START_SECONDS` after all were lost.
        """
        if not self._actors:
            raise ExecutorError("every Ray actor was lost or refused; see the warnings above")
        if any(actor.ready for actor in self._actors):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = get_running_seconds()
        elif get_running_seconds() - self._alone_since > START_SECONDS:
            raise ExecutorError(
                f"all Ray actors were lost, and none came back within {START_SECONDS:.0f} s; see `ray status` "
                "for what the cluster has room for"
            )
        return len(self._idle)

    @property
    def _idle(self) -> list[RayActor]:
        return [actor for actor in self._actors if actor.ready and actor.job is None]

    def submit(self, job: TrainingJob) -> None:
        """Submit to an idle actor: the one that has the training in memory, else one on the node of its checkpoint."""
        spec = job.spec
        node = self._nodes.get(spec.name)
        actor = min(self._idle, key=lambda a: (a.holds != spec, a.node != node, a.holds is not None))
        actor.job, actor.holds, actor.pending = job, spec, actor.handle.advance.remote(job)
        self._watchdog.start_waiting(actor, spec.purpose, get_stage(job, self._recipe))

    def poll(self, timeout_seconds: float) -> list[Reply]:
        """Return the actors' answers, and the losses of those that died or hang."""
        for actor in self._idle:
            if not actor.kept:
                actor.handle.keep.remote()
                actor.kept = True
        waiting = {actor.pending: actor for actor in self._actors if actor.pending is not None}
        if not waiting:
            time.sleep(timeout_seconds)
            return []
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_seconds)
        if ready:  # and all others that are ready
            ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        replies = (self._read_answer(waiting[reference], reference) for reference in ready)
        answers = [answer for answer in replies if answer is not None]
        return answers + self._find_hung()

    def _find_hung(self) -> list[Reply]:
        """Kill the actors that hang, and return their losses."""
        answers: list[Reply] = []
        for actor in list(self._actors):
            reason = self._watchdog.explain_hang(actor)
            if reason is not None and actor.job is not None and not ray.wait([actor.pending], timeout=0)[0]:
                answers.append(WorkerLost(actor.job.spec, reason))
                self._replace(actor, reason)
        return answers

    def _read_answer(self, actor: RayActor, reference: Any) -> Reply | None:
        try:
            reply: Any = ray.get(reference)
        except ray.exceptions.RayError as error:
            reason = f"Ray lost the actor or its node ({format_error_kind(error)})"
            self._replace(actor, reason)
            return None if actor.job is None else WorkerLost(actor.job.spec, reason)
        actor.pending = None
        self._watchdog.stop_waiting(actor)
        if actor.job is None:
            if (refusal := actor.settle(reply)) is not None:
                self._log(f"a Ray actor cannot take part: {refusal}")
                self._actors.remove(actor)
                ray.kill(actor.handle)
            return None
        answer: Reply = reply
        if isinstance(answer, WorkerLost):
            self._replace(actor, answer.reason)
            return answer
        if answer.note:
            self._log(answer.note)
        spec, actor.job = actor.job.spec, None
        if answer.result.state == "failed":
            self._replace(actor, "a training failed in a Ray actor")
        elif answer.finished:
            actor.holds, actor.kept = None, True
            self._nodes.pop(spec.name, None)
        else:
            actor.kept = False
            self._nodes[spec.name] = actor.node
        return answer

    def _replace(self, actor: RayActor, reason: str) -> None:
        """Ask Ray for another actor in its place."""
        self._watchdog.forget_worker(actor)
        self._actors.remove(actor)
        ray.kill(actor.handle)
        self._log(f"{reason}; asking Ray for another")
        self._actors.append(self._start_actor())

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors = []
        ray.shutdown()


def _make_absolute(conditions: Conditions) -> Conditions:
    """Return the conditions with absolute paths: actors have another working folder."""
    dataset = conditions.dataset
    places = {"store": str(Path(dataset.store).resolve())}
    if not dataset.synthetic:
        places["source"] = str(Path(dataset.source).expanduser().resolve())
    return conditions.model_copy(update={"dataset": dataset.model_copy(update=places)})


def _ask_actor(reference: Any) -> Any:
    """Return the first actor's answer, waiting at most `START_SECONDS`.

    Raises:
        SweeperError: if it does not come up in time, or raises.
    """
    try:
        return ray.get(reference, timeout=START_SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, SweeperError) else SweeperError(format_error_kind(error)) from None
    except ray.exceptions.ActorDiedError as error:
        raise SweeperError(
            f"a Ray actor ended while it was made ({format_error_kind(error)}); each node needs this version of "
            "sweeper, and enough memory for it"
        ) from error
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise SweeperError(
            f"no Ray actor came up within {START_SECONDS:.0f} s ({format_error_kind(error)}); see `ray status` for "
            "what the cluster has room for"
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
