"""Run an open study from its queued trials to its report: search → confirmation → evidence → recommendation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper import storage as studies
from sweeper.core.errors import (
    ExecutorError,
    InterruptedSweepError,
    NothingCompletedError,
    NothingConfirmedError,
    SweeperError,
)
from sweeper.core.events import Observers, ResultStored, SweepEvent
from sweeper.core.paths import ReportPaths
from sweeper.core.records import SweepRecord
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_count, format_resume_command
from sweeper.core.training_files import get_checkpoints_dir, get_weights_dir_of
from sweeper.data.store import is_changed
from sweeper.evidence.phrases import STEPS, format_remark
from sweeper.study.timekeeper import Timekeeper
from sweeper.system.machine import warn_unsafe_for_sqlite
from sweeper.system.whole_files import remove_left, replace_atomically
from sweeper.workflow.conclude import ReportedStudy, draw_conclusion, make_document, report_study
from sweeper.workflow.forecast import Forecast, count_trainings_left, format_steps, plan_text
from sweeper.workflow.mlflow_sync import make_mlflow_summary
from sweeper.workflow.options import StudyRequest, list_stored_options, read_request, store_request
from sweeper.workflow.own_script import warn_of_changed_script
from sweeper.workflow.phases import train_all
from sweeper.workflow.prepare import PreparedStudy
from sweeper.workflow.run_context import Display, RunContext, StopSignal
from sweeper.workflow.settings import TRIALS, Settings
from sweeper.workflow.status import REPORT, Heartbeat, get_status_file
from sweeper.workflow.study_state import read_interim_answer, read_study_state

if TYPE_CHECKING:
    import optuna

    from sweeper.storage.resilient_storage import RetryingStorage
    from sweeper.tracking import MlflowTracker


IMPRESSION = 4
"""Complete trials after which there is a first impression."""


class InterimReporter:
    """Observer that reports the answer so far: to the status file after each trial, elsewhere when it changes."""

    def __init__(
        self,
        read: Callable[[], SweepRecord],
        publish: Callable[[SweepRecord, str], None],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Create the reporter of a session; `read` reads the study.

        `publish` receives the study and its answer, a sentence: at the session's start, after a few
        trials, after the search and at each interim analysis. `note` receives each answer.
        """
        self._read, self._publish, self._note = read, publish, note
        self._sweep: SweepRecord | None = None
        self._published = ""

    def notify(self, event: SweepEvent) -> None:
        """Add a stored result of the search."""
        sweep = self._sweep
        if not isinstance(event, ResultStored) or sweep is None:
            return
        if event.result.spec.purpose != "search":
            return
        self._sweep = sweep = sweep.model_copy(update={"trials": (*sweep.trials, event.result)})
        self._note(read_interim_answer(sweep).answer)
        if sum(trial.state == "complete" for trial in sweep.trials) == IMPRESSION:
            self.publish()

    def publish(self) -> str:
        """Publish the study's answer if it has changed, and return it."""
        self._sweep = self._read()
        answer = read_interim_answer(self._sweep).answer
        self._note(answer)
        if answer and answer != self._published:
            self._published = answer
            self._publish(self._sweep, answer)
        return answer


@dataclass(frozen=True)
class StudySession:
    """A study that is open and accepted, with everything that runs it."""

    settings: Settings
    display: Display
    stop: StopSignal
    elapsed_seconds: Callable[[], float]
    """Seconds since the session began."""
    storage: RetryingStorage
    tracker: MlflowTracker
    prepared: PreparedStudy
    study: optuna.Study

    @property
    def checkpoints(self) -> Path:
        """Folder of the paused trainings."""
        return get_checkpoints_dir(self.settings.cache, self.prepared.name)

    @property
    def resume_command(self) -> str:
        """The command that continues the study."""
        return format_resume_command(self.prepared.name, self.settings.storage, self.settings.places)


def run_study(session: StudySession) -> ReportedStudy:
    """Run the study from its queue to its report; only one process does so at a time."""
    settings, display, study, name = session.settings, session.display, session.study, session.prepared.name
    executor, store = session.prepared.executor, Path(session.prepared.plan.conditions.dataset.store)
    with (
        studies.hold_study(settings.storage, name, places=settings.places, warn=display.warn) as lost,
        Heartbeat(get_status_file(settings.storage, name), name, places=settings.places) as heartbeat,
        _delete_partial_checkpoints(session.checkpoints),
        closing(session.tracker),
        closing(executor),
    ):
        request = _prepare_queue(session)
        _begin_tracking(session)
        cost = session.prepared.plan.conditions.recipe.final_cost
        keeper = Timekeeper(
            request.time or inf, session.elapsed_seconds, before=studies.list_all_results(study), final_cost=cost
        )
        forecast = _announce_forecast(session, request, keeper)
        so_far = _make_interim_reporter(session, heartbeat)
        so_far.publish()
        place = ReportPaths(settings.out, name).markdown
        context = RunContext(
            study,
            session.prepared.plan,
            request,
            executor,
            session.checkpoints,
            recorder=Observers((session.tracker, keeper, heartbeat, forecast, display, so_far)),
            display=display,
            stop=session.stop,
            time=keeper,
            is_taken_over=lost,
            heartbeat=heartbeat,
            publish_answer=lambda: f"So far: {answer} Report: {place}. " if (answer := so_far.publish()) else "",
            resume_command=session.resume_command,
            read_sweep=lambda: studies.load_sweep(session.storage, name),
        )
        try:
            _train_phases(context, session.tracker, forecast)
            if (dropped := _check_images(session, are_changed=is_changed(store))) is not None:
                session.tracker.end_sweep("FAILED")
                raise SweeperError(dropped)
        except (ExecutorError, InterruptedSweepError, KeyboardInterrupt):
            with suppress(SweeperError):  # the next query reports a lost database
                if (dropped := _check_images(session, are_changed=is_changed(store))) is not None:
                    display.warn(dropped)
            raise
        finally:
            with suppress(SweeperError):  # the next query reports a lost database
                study.set_user_attr("seconds", float(study.user_attrs.get("seconds", 0.0)) + session.elapsed_seconds())
        warn_of_changed_script(settings.command, session.prepared.plan.sources, display.warn)
        heartbeat.begin_phase(REPORT, 0)
        session.tracker.wait_until_written(report_alive=heartbeat.record_sign_of_life)
        executor.close()  # the report needs no workers, and they occupy memory
        _drop_checkpoints(session.checkpoints)
        return _write_conclusion(session, heartbeat)


@contextmanager
def _delete_partial_checkpoints(checkpoints: Path) -> Iterator[None]:
    """Delete checkpoints that killed workers left incomplete: only this study's workers write to its folder."""
    remove_left(get_weights_dir_of(checkpoints))
    remove_left(checkpoints, seconds=0)
    try:
        yield
    finally:
        remove_left(checkpoints, seconds=0)


def _drop_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of the study's trainings once none of them waits; those of `sweeper train` stay."""
    for purpose in ("search", *studies.EXTRAS):
        remove_left(folder, f"{purpose}-*.pt", seconds=0)


def _check_images(session: StudySession, *, are_changed: bool) -> str | None:
    """Drop the trainings since the last check if the decoded images changed; return a message if there were any."""
    study, store, dropped = session.study, session.prepared.plan.conditions.dataset.store, list[str]()
    studies.check_rows(study)
    if are_changed:
        dropped = studies.drop_unchecked(study)
        _drop_checkpoints(session.checkpoints)
    studies.note_checked(study)
    if not dropped:
        return None
    return (
        f"the decoded images in {store} must stay as they were decoded while a study is trained on them, and "
        f"something changed them: dropped {format_count(len(dropped), 'training')} since they were last checked. Find "
        f"what changed them (a disk, another program); this trains again what is missing: {session.resume_command}"
    )


def _prepare_queue(session: StudySession) -> StudyRequest:
    """Make the study ready: its plan, its request, and the trials that wait."""
    study, display = session.study, session.display
    settings, prepared = session.settings, session.prepared
    if prepared.old not in (None, prepared.plan):
        studies.replace_plan(study, prepared.plan)
    request = _store_request(study, settings, prepared.executor.workers)
    study.set_user_attr(studies.MACHINE, studies.pack_value(prepared.machine))
    if (dropped := _check_images(session, are_changed=prepared.is_changed)) is not None:
        display.warn(dropped)
    if interrupted := studies.reconcile_study(study):
        display.log(
            f"{format_count(interrupted, 'trial that was cut off is', 'trials that were cut off are')} queued again"
        )
    if failed := studies.retry_failed(study):
        reasons = "; ".join(dict.fromkeys(str(result.reason) for result in failed))
        display.log(f"{format_count(len(failed), 'trial')} that failed will be trained again ({reasons})")
    return request


def _begin_tracking(session: StudySession) -> None:
    """Begin to write the study to MLflow."""
    settings, display, study = session.settings, session.display, session.study
    session.tracker.begin_sweep(study, session.prepared.plan, storage=settings.storage, places=settings.places)
    studies.note_session(study)
    if (warning := warn_unsafe_for_sqlite(settings.storage)) is not None:
        display.warn(warning)
    storage, tracking = hide_address_secrets(settings.storage), hide_address_secrets(settings.tracking_uri)
    display.log(f"study {session.prepared.name}: {storage}; MLflow: {tracking}")


def _announce_forecast(session: StudySession, request: StudyRequest, keeper: Timekeeper) -> Forecast:
    """Log the planned trainings, and return the forecast of their time."""
    study, plan, display = session.study, session.prepared.plan, session.display
    to_come = count_trainings_left(plan, request, read_study_state(study, plan, request))
    probe = studies.read_budget_probe(study.user_attrs)
    is_found = probe is not None and probe.steps is not None
    steps = "" if is_found else format_steps(plan, request)
    if to_come:
        display.log(f"plan: {plan_text(to_come, plan.conditions.recipe)}")
    if to_come and steps:
        display.log(steps)
    recipe = plan.conditions.recipe
    step = "a step" if recipe.command is None else "1 % of a training"
    condition = f" with {recipe.format_steps(recipe.steps)}" if steps else ""
    executor, usual = session.prepared.executor, session.prepared.step_seconds
    forecast = Forecast(
        to_come, keeper, lambda: executor.workers, display.log, step=step, usual=usual, condition=condition
    )
    display.set_forecast(forecast.format_times)
    return forecast


def _make_interim_reporter(session: StudySession, heartbeat: Heartbeat) -> InterimReporter:
    """Return the observer that passes the answer so far to the terminal, the status file, MLflow and the report."""
    name = session.prepared.name
    paths = ReportPaths(session.settings.out, name)

    def publish(sweep: SweepRecord, sentence: str) -> None:
        session.display.log(f"so far: {sentence}")
        text = f"**Not finished.** So far: {sentence}\n\n{_format_interim_note(sweep)}"
        session.tracker.set_description(text, f"Not finished. So far: {sentence}")
        if not paths.recommendation.exists():  # an earlier report stays until the next one is complete
            with suppress(OSError):
                paths.folder.mkdir(parents=True, exist_ok=True)
                with replace_atomically(paths.markdown) as part:
                    part.write_text(f"# {name}\n\n{text}\nTo continue: `{session.resume_command}`\n", "utf-8")

    return InterimReporter(lambda: studies.load_sweep(session.storage, name), publish, heartbeat.record_answer)


def _format_interim_note(sweep: SweepRecord) -> str:
    """Format the answer of an unfinished study, in markdown; "" where nothing was tested."""
    if (conclusion := draw_conclusion(sweep)).evidence is None:
        return ""
    from sweeper.report.markdown import format_note  # pandas, matplotlib: not before there is an answer

    return format_note(make_document(sweep, conclusion))


def _train_phases(context: RunContext, tracker: MlflowTracker, forecast: Forecast) -> None:
    """Train all phases; record in MLflow if that was stopped or failed."""

    def use_final_plan(plan: studies.StudyPlan) -> None:
        state = read_study_state(context.study, plan, context.request)
        forecast.use_trainings(count_trainings_left(plan, context.request, state))
        tracker.update_plan(plan.conditions)

    try:
        train_all(context, use_final_plan)
    except (InterruptedSweepError, KeyboardInterrupt):
        with suppress(SweeperError):  # the next query reports a lost database
            studies.reconcile_study(context.study)
        tracker.end_sweep("KILLED")
        raise
    except BaseException:
        if context.is_taken_over():
            tracker.close()  # another process runs the study now, and writes its runs
        else:
            tracker.end_sweep("FAILED")
        raise


def _write_conclusion(session: StudySession, heartbeat: Heartbeat) -> ReportedStudy:
    """Write the evidence, recommendation and report, and copy them to MLflow."""
    settings, storage, tracker = session.settings, session.storage, session.tracker
    name, report_alive = session.prepared.name, heartbeat.record_sign_of_life
    studies.note_conclusion(session.study)
    try:
        outcome = report_study(storage, name, out=settings.out, report_alive=report_alive)
    except BaseException:
        tracker.end_sweep("FAILED")
        raise
    heartbeat.record_answer(read_interim_answer(outcome.sweep, outcome.conclusion).answer)
    tracker.end_sweep("FINISHED", make_mlflow_summary(outcome), report_alive=report_alive)
    storage.check_file()
    _require_answer(outcome)
    return outcome


def _require_answer(outcome: ReportedStudy) -> None:
    """Refuse a study in which no training completed that could be compared, with the reasons and what may help.

    Raises:
        NothingCompletedError: if it is the search's.
        NothingConfirmedError: if it is the confirmation's; where every trial diverged there is nothing to confirm.
    """
    sweep, document = outcome.sweep, outcome.document
    has_trial = any(trial.state == "complete" for trial in sweep.trials)
    was_ended = bool(sweep.confirmations or sweep.cut)
    is_open = has_trial and not was_ended
    if is_open or outcome.conclusion.evidence is not None:
        return
    failed = sorted({run.reason for run in (*sweep.trials, *sweep.confirmations) if run.reason})
    reasons = [*([] if sweep.learned else [sweep.budget]), *sweep.cut, *failed[:5]]
    steps = [f"{format_remark(step, document, STEPS)} {step.command}".strip() for step in document.next]
    raise (NothingConfirmedError if has_trial else NothingCompletedError)(
        f"no training completed that could be compared, so no loss can be recommended; see {outcome.paths.markdown}. "
        f"What is finished is kept, and this continues it: {sweep.resume_command}"
        + "".join(f"\n  - {line}" for line in (*reasons, *steps))
    )


def _store_request(study: optuna.Study, settings: Settings, workers: int) -> StudyRequest:
    """Store the request with the study."""
    options = {**studies.unpack_options(study.user_attrs), **list_stored_options(settings)}
    request = read_request(study, options)
    if (trials := studies.count_trials(study)) > options.get("trials", TRIALS):
        options["trials"] = trials
    study.set_user_attr(studies.OPTIONS, studies.pack_value(options))
    study.set_user_attr("places", settings.places)
    study.set_user_attr("workers", workers)
    study.set_user_attr(studies.SETTLES, request.settles)
    store_request(study, request)
    study.set_user_attr(studies.MARGIN, studies.pack_value(request.margin))
    return request
