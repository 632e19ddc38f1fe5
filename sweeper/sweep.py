"""The whole flow: data → profile → space → search → confirmation → evidence → recommendation → report."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sweeper.data import divide, load_dataset, open_store
from sweeper.errors import InterruptedSweepError, NothingCompletedError, StudyError
from sweeper.evidence.weigh import weigh
from sweeper.losses import FAMILIES, snippet
from sweeper.paths import ReportPaths, slug
from sweeper.profile import imbalance_of, profile_dataset
from sweeper.recommend import recommend
from sweeper.records import Conditions, Dataset, Evaluation, Recommendation, Split, SweepRecord, TrialResult, TrialSpec
from sweeper.report import report_summary, write_report
from sweeper.settings import CONFIRM_SEEDS, DATA, ROPE, TRIALS, Settings, make_recipe, resumed_recipe
from sweeper.space import default_space_name, load_space
from sweeper.study import storage as studies
from sweeper.study.confirm import Confirmation, confirmed, finalists
from sweeper.study.drive import Work, drive
from sweeper.study.executors import Executor, InlineExecutor, ProcessExecutor
from sweeper.study.search import Search, Watcher, enqueue_defaults
from sweeper.tracking import Tracker

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage


Clock = Callable[[], datetime]


class Display(Watcher, Protocol):
    """What shows the sweep to the person who waits for it."""

    def say(self, text: str) -> None:
        """One line for people."""

    def warn(self, text: str) -> None:
        """One line that they should not miss."""

    def phase(self, name: str, done: int, total: int) -> None:
        """A phase of `total` trainings begins, `done` of which are there already."""


class Outcome(NamedTuple):
    """What a sweep leaves behind."""

    sweep: SweepRecord
    recommendation: Recommendation
    paths: ReportPaths


class Stop(Protocol):
    """Whether a signal asked to stop, and the exit status that goes with it."""

    @property
    def status(self) -> int | None:
        """130 after Ctrl-C, 143 after SIGTERM, None while nothing was asked."""


def run_sweep(settings: Settings, display: Display, stop: Stop, *, clock: Clock, cores: int) -> Outcome:
    """Run, or resume, a sweep to its report.

    Args:
        settings: what was asked for.
        display: is told what happens.
        stop: is looked at between events.
        clock: the time in UTC, for the study's name and its record.
        cores: processor cores that the workers share.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) before anything was trained.
        NothingCompletedError: if no trial completed; the report says so too.
        InterruptedSweepError: if `stop` said so; the study can be resumed.
    """
    now = clock()
    storage = studies.open_storage(settings.storage)
    _check_name(storage, settings)
    executor: Executor = (
        InlineExecutor(settings.device)
        if settings.executor == "inline"
        else ProcessExecutor(settings.device, settings.workers, cores, display.warn)
    )
    with closing(executor):
        name, plan, fresh = _prepare(settings, storage, executor, display, now)
        study = (studies.create_study if fresh else studies.load_study)(storage, name, plan)
        asked = _remember(study, settings)
        if fresh:
            enqueue_defaults(study, plan.space, asked.trials)
        elif left := studies.reconcile(study):
            display.say(f"{left} trial(s) that were cut off are queued again")
        tracker = Tracker(settings.tracking_uri, warn=display.warn)
        tracker.start_sweep(
            name,
            plan.conditions,
            parent_run_id=study.user_attrs.get("parent_run_id"),
            settings={"trials": str(asked.trials), "space": plan.space.name},
        )
        study.set_user_attr("experiment_id", tracker.experiment_id)
        study.set_user_attr("parent_run_id", tracker.parent_run_id)
        display.say(f"study {name}: {settings.storage}; MLflow: {settings.tracking_uri}")
        watcher = _Both(tracker, display)
        status = "FAILED"
        try:
            _train(study, plan, asked, executor=executor, watcher=watcher, display=display, stop=stop)
            _add_seconds(study, (clock() - now).total_seconds())
            outcome = report_study(storage, name, out=settings.out)
            tracker.end_sweep(
                "FINISHED",
                note=report_summary(outcome.sweep, outcome.recommendation),
                folder=outcome.paths.folder,
                tags={"sweeper.verdict": outcome.recommendation.verdict.value},
            )
            status = ""
        except (InterruptedSweepError, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            if status:
                _add_seconds(study, (clock() - now).total_seconds())
                tracker.end_sweep(status)
    if not any(trial.state == "complete" for trial in outcome.sweep.trials):
        reasons = sorted({trial.reason for trial in outcome.sweep.trials if trial.reason})
        raise NothingCompletedError(
            f"no trial completed, so no loss can be recommended; see {outcome.paths.markdown}"
            + "".join(f"\n  - {reason}" for reason in reasons[:5])
        )
    return outcome


def _check_name(storage: RDBStorage, settings: Settings) -> None:
    """Refuse a name that is taken, or a resume of nothing, before the data are read."""
    names = studies.study_names(storage)
    if settings.resume:
        if settings.study is None:
            known = ", ".join(names[-5:]) or "none"
            raise StudyError(f"--resume needs --study NAME; the newest studies here are: {known}")
        studies.read_plan(storage, settings.study)
    elif settings.study in names:
        raise StudyError(
            f"study {settings.study!r} exists already; add --resume to continue it, or choose another --study"
        )


def _prepare(
    settings: Settings, storage: RDBStorage, executor: Executor, display: Display, now: datetime
) -> tuple[str, studies.Plan, bool]:
    """Everything that can be refused: data, space, recipe, network. The study's name, its plan, whether it is new."""
    old = studies.read_plan(storage, settings.study) if settings.resume and settings.study else None
    source = settings.data or (old.conditions.dataset.source if old else DATA)
    dataset = load_dataset(source, settings.cache, display.say)
    for warning in dataset.warnings:
        display.warn(warning)
    seed = settings.seed if settings.seed is not None else (old.conditions.seed if old else 0)
    split = divide(dataset, test_seed=seed, seed=seed)
    _check_split(dataset, split, display)
    space = (
        old.space
        if old and settings.space is None
        else load_space(settings.space or default_space_name(dataset.task), dataset.task)
    )
    hardware = executor.hardware()
    if old is None:
        recipe = make_recipe(
            settings,
            dataset,
            hardware,
            training_pictures=len(split.train),
            has_weights=executor.has_weights,
            say=display.say,
        )
    else:
        recipe = resumed_recipe(settings, old.conditions.recipe, hardware, len(split.train))
    plan = studies.Plan(
        created=now.isoformat(timespec="seconds"),
        conditions=Conditions(dataset=dataset, recipe=recipe, seed=seed),
        profile=old.profile if old and old.conditions.dataset.digest == dataset.digest else profile_dataset(dataset),
        space=space,
        imbalance=imbalance_of(dataset.class_pixels(split.train)),
        versions=versions(),
    )
    if old is not None and settings.study is not None:
        if changed := studies.differences(old, plan):
            raise StudyError(
                f"study {settings.study!r} cannot be resumed: its trials could not be compared, as this has changed:\n"
                + "\n".join(f"  - {line}" for line in changed)
                + f"\nLeave these options out, or start another study: --study {settings.study}-2"
            )
        executor.configure(plan.conditions)
        return settings.study, plan, False
    executor.configure(plan.conditions)
    return settings.study or _new_name(storage, dataset, now), plan, True


def _new_name(storage: RDBStorage, dataset: Dataset, now: datetime) -> str:
    base = f"{slug(dataset.name)}-{now:%Y%m%dT%H%M%S}"
    names, name, number = set(studies.study_names(storage)), base, 2
    while name in names:
        name, number = f"{base}-{number}", number + 1
    return name


def _check_split(dataset: Dataset, split: Split, display: Display) -> None:
    """Say what a split lacks; a class that training never sees is allowed, and will show as never predicted."""
    for side, indices in (("training", split.train), ("validation", split.val), ("test", split.test)):
        absent = [c for c, n in zip(dataset.classes, dataset.class_pixels(indices), strict=True) if n == 0]
        occurring = [c for c in absent if dataset.class_pixels()[dataset.classes.index(c)] > 0]
        if occurring:
            display.warn(f"the {side} split ({len(indices)} pictures) has no pixel of: {', '.join(occurring)}")


class _Asked(NamedTuple):
    trials: int
    confirm_seeds: int


def _remember(study: optuna.Study, settings: Settings) -> _Asked:
    """Totals of this study: what is asked for now, else what it was asked for before, else the default."""
    held = study.user_attrs

    def settle(key: str, given: float | None, default: float) -> float:
        value = given if given is not None else held.get(key, default)
        study.set_user_attr(key, value)
        return float(value)

    settle("rope", settings.rope, ROPE)
    if not settings.resume:
        study.set_user_attr("command", settings.command)
    return _Asked(
        trials=int(settle("trials", settings.trials, TRIALS)),
        confirm_seeds=int(settle("confirm_seeds", settings.confirm_seeds, CONFIRM_SEEDS)),
    )


def _train(
    study: optuna.Study,
    plan: studies.Plan,
    asked: _Asked,
    *,
    executor: Executor,
    watcher: Watcher,
    display: Display,
    stop: Stop,
) -> None:
    """The search up to its total, then the confirmation of its finalists."""

    def go(work: Work) -> None:
        if not drive(executor, work, lambda: stop.status is not None):
            assert stop.status is not None
            raise InterruptedSweepError(
                f"stopped; everything finished is kept. To go on: sweeper run --study {study.study_name} --resume",
                stop.status,
            )

    done = len(studies.search_results(study))
    display.phase("search", done, asked.trials)
    go(Search(study, plan.space, plan.conditions, imbalance=plan.imbalance, trials=asked.trials, watcher=watcher))
    chosen = finalists(studies.search_results(study))
    confirmation = Confirmation(study, chosen, plan.conditions, seeds=asked.confirm_seeds, watcher=watcher)
    total = len(chosen) * asked.confirm_seeds
    display.phase("confirm", total - len(confirmation), total)
    go(confirmation)


def conclude(sweep: SweepRecord) -> Recommendation:
    """What a study's record allows to say; pure, but for the losses' registry."""
    dataset = sweep.conditions.dataset
    chosen = finalists(sweep.trials)
    usable = confirmed(sweep.confirmations, chosen, sweep.conditions.recipe.confirm_steps)
    usable = [result for result in usable if result.state == "complete"]
    evidence = None
    if usable:
        search = {trial.spec.family: trial for trial in chosen}
        seed = sweep.conditions.seed
        evidence = weigh(usable, search, classes=dataset.classes, rope=sweep.rope, seed=seed)
    split = divide(dataset, test_seed=sweep.conditions.seed, seed=sweep.conditions.seed)
    frequencies = [float(n) for n in dataset.class_pixels(split.train)]

    def paste(family: str, params: dict[str, float], point: float) -> str:
        return snippet(family, params, dataset.task, dataset.classes, frequencies, point)

    metric = sweep.conditions.recipe.metric
    return recommend(evidence, task=dataset.task, order=list(FAMILIES), snippet=paste, metric=metric)


def report_study(storage: RDBStorage, name: str, *, out: Path, ui_url: str | None = None) -> Outcome:
    """Write (again) the report of a study, from its storage and the decoded pictures alone.

    Raises:
        StudyError: if there is no such study.
    """
    sweep = studies.load_sweep(storage, name)
    recommendation = conclude(sweep)
    folder = Path(sweep.conditions.dataset.store)
    store = open_store(folder) if folder.is_dir() else None
    pixels = (lambda i: (store.image(i), store.mask(i))) if store is not None else None
    settings = {} if ui_url is None else {"ui_url": ui_url}
    return Outcome(sweep, recommendation, write_report(sweep, recommendation, out, pixels=pixels, **settings))


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("sweeper", "torch", "segmentation-models-pytorch", "optuna", "mlflow", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _add_seconds(study: optuna.Study, seconds: float) -> None:
    study.set_user_attr("seconds", float(study.user_attrs.get("seconds", 0.0)) + seconds)


class _Both:
    """Tells the tracker first, so that the display and the storage see the run's id."""

    def __init__(self, tracker: Tracker, display: Display) -> None:
        self._tracker, self._display = tracker, display

    def training_started(self, spec: TrialSpec) -> None:
        self._tracker.training_started(spec)
        self._display.training_started(spec)

    def training_evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        self._tracker.training_evaluated(spec, evaluation)
        self._display.training_evaluated(spec, evaluation)

    def training_ended(self, spec: TrialSpec, result: TrialResult) -> TrialResult:
        result = self._tracker.training_ended(spec, result)
        return self._display.training_ended(spec, result)

    def training_dropped(self, spec: TrialSpec, reason: str) -> None:
        self._tracker.training_dropped(spec, reason)
        self._display.training_dropped(spec, reason)
