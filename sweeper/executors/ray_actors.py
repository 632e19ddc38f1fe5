"""Ray: trainings in actors on the nodes of a cluster. Where an actor runs, and how it gets there, is Ray's.

Ray ends the process that uses it when the raylet or the cluster's head is gone: see
`sweeper.executors.separate_process`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: it reports its use to nobody
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from sweeper.core.errors import ExecutorError, SweeperError, UsageError
from sweeper.core.events import Answer, Evaluated, Hardware, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.records import Conditions, TrialSpec
from sweeper.executors.ray_trainer import Trainer
from sweeper.executors.watchdog import Watchdog
from sweeper.system.clocks import running_seconds

REACH_SECONDS = 10.0
START_SECONDS = 300.0
"""A first actor that is not there by then is given up: the cluster has no room. So is the sweep when all actors were
lost, and none came back for so long."""
NODE_SECONDS = 10.0
"""How often Ray is asked whether this machine is still part of the cluster."""
STARTS = 3
"""An actor that is lost before it is ready is asked for so often in all."""
MOST = 64
"""Actors at most, unless --workers says otherwise."""


@dataclass(eq=False)
class _Actor:
    """The driver's end of one actor."""

    handle: Any
    pending: Any
    """What it is doing: a reference to come."""
    spec: TrialSpec | None = None
    waits: bool = False
    """Whether it was evaluated, and has no answer yet."""
    ready: bool = False
    node: str = ""
    starts: int = 1
    """How often an actor was asked for in this place since one was ready."""

    def settle(self, answer: tuple[str, str | None]) -> str | None:
        """Note what `configure` found: its node, and why it refuses, if it does, which is given back."""
        self.node, refusal = answer
        self.pending, self.ready = None, refusal is None
        return refusal


class RayBackend:
    """A Ray cluster: an existing one, or one on this machine alone."""

    def __init__(
        self,
        device: str,
        count: int | None,
        cores: int,
        address: str | None,
        log: Callable[[str], None],
        *,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Connect.

        Args:
            device: as asked for.
            count: actors; None = one per GPU of the cluster, or one per core, at most 64.
            cores: processor cores of this machine, where the cluster is its own.
            address: of an existing cluster; None = one for this sweep, which only this machine reaches.
            log: is told of actors that were lost.
            watchdog: says when a training hangs.

        Raises:
            UsageError: if there is no cluster at the address.
        """
        self._device, self._count, self._log = device, count, log
        self._watchdog = watchdog or Watchdog()
        self._opened: RayExecutor | None = None
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        options: dict[str, Any] = {"address": address}
        if address is None:  # a cluster that exists has its own
            # `local`: else Ray would join whatever cluster was started here last.
            options = {
                "address": "local",
                "num_cpus": cores,
                "include_dashboard": False,
            }
        try:
            _check_reachable(address)
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:200]
            raise UsageError(
                f"--ray-address {address or '(none)'} must be a Ray cluster that answers, got: {text}. Start one "
                "with `ray start --head`, or leave the option out for one on this machine"
            ) from error
        finally:
            for number, handler in before.items():  # Ray takes SIGTERM for itself; the sweep ends cleanly on it
                signal.signal(number, handler)

    @property
    def _gpus(self) -> int:
        return 0 if self._device == "cpu" else _total("GPU")

    def _new(self) -> _Actor:
        options = {"num_cpus": 1, "num_gpus": 1 if self._gpus else 0, "scheduling_strategy": "SPREAD"}
        return _Actor(ray.remote(Trainer).options(**options).remote(), None)

    @cached_property
    def _first(self) -> _Actor:
        return self._new()

    @cached_property
    def _hardware(self) -> Hardware:
        hardware: Hardware = _ask(self._first.handle.hardware.remote(self._device))
        return hardware

    def hardware(self) -> Hardware:
        """Of the node that the first actor is placed on."""
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """On the first actor's node."""
        return bool(_ask(self._first.handle.has_weights.remote(encoder)))

    def open(self, conditions: Conditions, checkpoints: Path) -> RayExecutor:
        """Configure the first actor, and start the others, which come as Ray finds room for them.

        Raises:
            UsageError: if the first refuses.
        """
        hardware, dataset = self.hardware(), conditions.dataset
        absolute = {"store": str(Path(dataset.store).resolve())}  # actors have another working folder
        if not dataset.synthetic:
            absolute["source"] = str(Path(dataset.source).expanduser().resolve())
        conditions = conditions.model_copy(update={"dataset": dataset.model_copy(update=absolute)})
        given = (conditions, hardware.device, 1, checkpoints.resolve(), hardware.precision)

        def start() -> _Actor:
            actor = self._new()
            actor.pending = actor.handle.configure.remote(*given)
            return actor

        first = self._first
        if (refusal := first.settle(_ask(first.handle.configure.remote(*given)))) is not None:
            raise UsageError(refusal)
        count = self._count or self._gpus or max(1, min(_total("CPU"), MOST))
        self._opened = RayExecutor([first, *(start() for _ in range(count - 1))], start, self._log, self._watchdog)
        return self._opened

    def close(self) -> None:
        """End the actors, and the cluster if it is ours."""
        if self._opened is not None:
            self._opened.close()
        ray.shutdown()


class RayExecutor:
    """Actors on the nodes of a Ray cluster, each with one slot.

    A node or actor that is lost costs its training (`WorkerLost`), and Ray starts another actor where there is room.
    One that hangs, or in which a training failed, is replaced, too.
    """

    def __init__(
        self, actors: list[_Actor], start: Callable[[], _Actor], log: Callable[[str], None], watchdog: Watchdog
    ) -> None:
        """Made by `RayBackend.open`: `start` asks Ray for an actor and configures it."""
        self._actors, self._start, self._log, self._watchdog = actors, start, log, watchdog
        self._count = len(actors)
        self._paused_on: dict[tuple[str, int], str] = {}
        own = ray.get_runtime_context().get_node_id()
        self._node = own if own in _nodes() else None
        """This machine's, where it is one of the cluster's."""
        self._node_seen = running_seconds()
        self._alone_since: float | None = None
        """Since when there is no actor that could train; None while there is one."""

    @property
    def slots(self) -> int:
        """How many actors there are to be."""
        return self._count

    def free(self) -> int:
        """Idle actors.

        Raises:
            ExecutorError: if none is left, or none came back for `START_SECONDS` after all were lost.
        """
        if not self._actors:
            raise ExecutorError("every Ray actor was lost or refused; see the warnings above")
        if any(actor.ready for actor in self._actors):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = running_seconds()
        elif running_seconds() - self._alone_since > START_SECONDS:
            raise ExecutorError(
                f"all Ray actors were lost, and none came back within {START_SECONDS:.0f} s; see `ray status` for what "
                "the cluster has room for"
            )
        return sum(actor.ready and actor.spec is None for actor in self._actors)

    def submit(self, spec: TrialSpec) -> None:
        """To an idle actor; one that was paused goes to the node of its checkpoint, if it can."""
        node = self._paused_on.pop((spec.purpose, spec.number), None)
        idle = [actor for actor in self._actors if actor.ready and actor.spec is None]
        actor = min(idle, key=lambda a: a.node != node)
        actor.spec, actor.pending = spec, actor.handle.begin.remote(spec)
        self._watchdog.wait(actor, spec.purpose, "first")

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """What the actors told, and which were lost.

        Raises:
            ExecutorError: if this machine is no part of the cluster any more.
        """
        self._look_at_node()
        waiting = {actor.pending: actor for actor in self._actors if actor.pending is not None}
        if not waiting:
            time.sleep(timeout_seconds)
            return []
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_seconds)
        if ready:  # and whatever else is there
            ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        events = [event for reference in ready if (event := self._event(waiting[reference], reference)) is not None]
        return events + self._hung()

    def _look_at_node(self) -> None:
        """Without its raylet this machine gets no new actors and no large results, and Ray does not say so."""
        now = running_seconds()
        if self._node is None or now - self._node_seen < NODE_SECONDS:
            return
        self._node_seen = now
        if self._node not in _nodes():
            raise ExecutorError("this machine is no part of the Ray cluster any more: its raylet is gone")

    def _hung(self) -> list[TrainingEvent]:
        """Deaths of the actors that say nothing any more: they are killed."""
        found: list[TrainingEvent] = []
        for actor in [a for a in self._actors if a.spec is not None and a.pending is not None]:
            reason = self._watchdog.hangs(actor)
            if reason is not None and actor.spec is not None and not ray.wait([actor.pending], timeout=0)[0]:
                found.append(WorkerLost(actor.spec, reason))
                self._replace(actor, reason)
        return found

    def _event(self, actor: _Actor, reference: Any) -> TrainingEvent | None:
        try:
            told: Any = ray.get(reference)
        except ray.exceptions.RayError as error:
            reason = f"Ray lost the actor or its node ({_line(error)})"
            self._replace(actor, reason)
            return None if actor.spec is None else WorkerLost(actor.spec, reason)
        actor.pending = None
        self._watchdog.answered(actor)
        spec = actor.spec
        if spec is None:
            if (refusal := actor.settle(told)) is not None:
                self._log(f"a Ray actor cannot take part: {refusal}")
                self._actors.remove(actor)
                ray.kill(actor.handle)
            return None
        event: TrainingEvent = told
        if isinstance(event, Evaluated):
            if event.note:
                self._log(event.note)
            actor.waits = not event.last
            if event.last:
                actor.pending = actor.handle.proceed.remote("go")
                self._watchdog.wait(actor, spec.purpose, "result")
            return event
        if isinstance(event, OutOfMemory | WorkerLost):
            self._replace(actor, event.reason)
            return event
        actor.spec = None
        if event.result.state == "failed":
            self._replace(actor, "a training failed in a Ray actor")
        if isinstance(event, Paused):
            self._paused_on[spec.purpose, spec.number] = actor.node
        return event

    def _replace(self, actor: _Actor, reason: str) -> None:
        """Ask Ray for another in its place, unless that is of no use."""
        self._watchdog.forget(actor)
        self._actors.remove(actor)
        ray.kill(actor.handle)
        if not actor.ready and actor.starts >= STARTS:
            self._log(f"{reason}, before it was ready, as {STARTS} did in this place; {len(self._actors)} are left")
            return
        self._log(f"{reason}; asking Ray for another")
        another = self._start()
        another.starts = 1 if actor.ready else actor.starts + 1
        self._actors.append(another)

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """Tell the actor of this training."""
        for actor in self._actors:
            if actor.spec == spec and actor.waits:
                actor.waits = False
                self._watchdog.wait(actor, spec.purpose, "next" if answer == "go" else "result")
                actor.pending = actor.handle.proceed.remote(answer)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors = []


def _ask(reference: Any) -> Any:
    """What the first actor answers.

    Raises:
        SweeperError: if it does not come up in time, or raises.
    """
    try:
        return ray.get(reference, timeout=START_SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, SweeperError) else SweeperError(_line(error)) from None
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise SweeperError(
            f"no Ray actor came up within {START_SECONDS:.0f} s ({_line(error)}); see `ray status` for what the "
            "cluster has room for"
        ) from error


def _check_reachable(address: str | None) -> None:
    """Whether anyone listens at HOST:PORT: Ray itself would try for a minute.

    Raises:
        OSError: if nobody does.
    """
    if found := re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:([0-9]+)", address or ""):
        socket.create_connection((found[1], int(found[2])), timeout=REACH_SECONDS).close()


def _nodes() -> set[str]:
    """The nodes that are alive, by their ids."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"] for node in nodes if node["Alive"]}


def _total(resource: str) -> int:
    """What the whole cluster has of it."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(resources.get(resource, 0))


def _line(error: BaseException) -> str:
    """The kind of error and its first line; of what an actor raised, if it did: Ray's own texts fill a page."""
    cause = getattr(error, "cause", None)
    error = cause if isinstance(cause, BaseException) else error
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:150]}"
