"""`sweeper run --join`: one more machine for a study that another run leads."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.errors import InterruptedSweepError, MissingStudyError, StudyError, SweeperError, UsageError
from sweeper.core.own_code import code_here
from sweeper.core.paths import joined_dir, step_times_file
from sweeper.core.redact import shown_address
from sweeper.core.text import count, resume_command
from sweeper.data.cache import hold
from sweeper.executors.queue_worker import LEADER_SECONDS, Joined
from sweeper.executors.task_queue import Queue
from sweeper.system.clocks import running_seconds
from sweeper.system.database_waits import Patience
from sweeper.system.whole_files import remove_left
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.machine_choice import precision_here, settle
from sweeper.workflow.phases import Display, Stop, ended_by
from sweeper.workflow.prepare import announce, dataset_of
from sweeper.workflow.request_checks import check_slots
from sweeper.workflow.settings import Settings, duration
from sweeper.workflow.shared_database import one_machine_only

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

OURS = {
    "study",
    "storage",
    "data",
    "images",
    "masks",
    "format",
    "cache",
    "device",
    "workers",
    "threads",
    "slots",
    "executor",
    "ray_address",
    "timeout",
    "join",
}
OURS |= {"tracking_uri", "out", "precision"}  # the study's, but often set by a variable for all commands
"""Options that say where and how; the study says all others."""
WAIT_SECONDS = 2.0


class Joining(NamedTuple):
    """What came of it."""

    trainings: int
    ending: str


def run_join(settings: Settings, display: Display, stop: Stop, *, clock: Callable[[], datetime], cores: int) -> Joining:
    """Train for the study's leader until the study is concluded, nobody leads it any more, or the time is up.

    Args:
        settings: study and storage, and where and how to work here.
        display: is told what happens.
        stop: is looked at between events.
        clock: the time in UTC, for the name of a folder.
        cores: processor cores that the workers share.

    Raises:
        UsageError: (DataError, StudyError among them) before anything was trained.
        SweeperError: if nobody leads the study.
        InterruptedSweepError: if `stop` said so; what was in work goes to another.
        ChangedImagesError: if the images here changed meanwhile; the study knows it then.
    """
    name = _check(settings)
    began, started = clock(), time.monotonic()
    patience = Patience(lambda: stop.status is not None)
    storage, plan = _wait_for(settings, name, display, patience)
    seconds = duration(settings.timeout) if settings.timeout is not None else None
    known = None if settings.images is not None else plan.conditions.dataset.format
    given = settings.model_copy(update={"format": settings.format or known})
    dataset = dataset_of(given, plan.conditions.dataset, display)
    with (
        ended_by(stop, patience),
        hold(Path(dataset.store)) as held,
        closing(make_backend(settings, cores, display.warn, display.say)) as backend,
    ):
        stored = plan.conditions.recipe
        recipe = stored.model_copy(update={"precision": precision_here(settings, stored.precision, backend.hardware())})
        if recipe.model is not None:
            recipe = recipe.model_copy(update={"model": code_here(recipe.model, "--model")})
        if recipe.own_metric is not None:
            recipe = recipe.model_copy(update={"own_metric": code_here(recipe.own_metric, "--metric")})
        losses = tuple(o.model_copy(update={"code": code_here(o.code, "--loss")}) for o in plan.conditions.losses)
        conditions = plan.conditions.model_copy(update={"dataset": dataset, "recipe": recipe, "losses": losses})
        if changed := studies.differences(plan, plan.model_copy(update={"conditions": conditions})):
            raise StudyError(
                f"this machine cannot join study {name!r}: its trainings could not be compared with the others':\n"
                + "\n".join(f"  - {line}" for line in changed)
                + "\nName the same images with --data, copy code of your own (--model, --loss) as it is there, and use "
                "machines of one kind for one study"
            )
        queue = Queue(settings.storage, name, patience)
        checkpoints = joined_dir(settings.cache, name, f"{queue.host}-{began:%Y%m%dT%H%M%S%f}")
        remove_left(checkpoints.parent.parent, f"joined-{queue.host}-[0-9]*")  # without them a training begins anew
        conditions, _ = settle(conditions, backend, step_times_file(settings.cache), display.say, any_precision=False)
        announce(conditions, display.say)
        executor = backend.open(conditions, checkpoints)
        stop.defer()
        others = {m.host for m in queue.tables.members().values() if m.kind == "leader"} - {queue.host}
        if (warning := one_machine_only(settings.storage, others=bool(others))) is not None:
            display.warn(warning)
        display.say(
            f"joined study {name}: {shown_address(settings.storage)}, {count(executor.slots, 'training')} at a "
            "time here"
        )

        def stopping() -> str | None:
            late = seconds is not None and time.monotonic() - started >= seconds
            return "stopped" if late or stop.status is not None else None

        joined = Joined(queue, executor, display.say)
        try:
            study = studies.load_study(storage, name)
            ending = joined.serve(stopping, studies.is_concluded(study.user_attrs))
            studies.judge_change(study, held.folder, held.changed(), joined.finished)
        finally:
            executor.close()  # its workers may be at a checkpoint
            shutil.rmtree(checkpoints.parent, ignore_errors=True)
    if stop.status is not None:
        raise InterruptedSweepError("stopped; what was in work here goes to another machine", stop.status)
    if ending == "alone":
        raise SweeperError(
            f"no run led study {name!r} for {LEADER_SECONDS / 60:.0f} min; everything finished is kept. To lead it: "
            + resume_command(name, settings.storage)
        )
    return Joining(len(joined.finished), "its time is up" if ending == "stopped" else "the study is concluded")


def _check(settings: Settings) -> str:
    """The study's name.

    Raises:
        UsageError: if there is none, or options are given that the study decides.
    """
    if settings.study is None:
        raise UsageError("--join needs --study NAME: the study that a run leads elsewhere")
    given = [f"--{key}" for key in settings.model_dump(exclude_defaults=True) if key not in OURS]
    if given:
        found = ", ".join(given).replace("_", "-")
        raise UsageError(f"with --join the study decides what is trained; leave out {found}")
    check_slots(settings)
    return settings.study


def _wait_for(settings: Settings, name: str, display: Display, patience: Patience) -> tuple[RDBStorage, studies.Plan]:
    """The study, which may still be in the making: jobs of an array begin in any order.

    Raises:
        MissingStudyError: if it is not there after `LEADER_SECONDS`.
    """
    began, told = running_seconds(), False
    while True:
        try:
            storage = studies.open_storage(settings.storage, create=False, warn=display.warn, patience=patience)
            return storage, studies.read_plan(storage, name)
        except MissingStudyError as error:
            if running_seconds() - began > LEADER_SECONDS:
                raise
            if not told:
                display.say(f"{error}. Waiting {LEADER_SECONDS / 60:.0f} min for it to be made (Ctrl-C ends)")
                told = True
            time.sleep(WAIT_SECONDS)
