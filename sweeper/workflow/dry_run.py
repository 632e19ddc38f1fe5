"""`sweeper run --dry-run`: everything that can be said, and refused, before anything is trained or written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.errors import MissingStudyError, UsageError
from sweeper.core.records import InterimAnalysis
from sweeper.core.text import to_one
from sweeper.data.folds import NOT_HELD_OUT, scored_images, split_of
from sweeper.executors.protocol import Backend
from sweeper.storage.interim_analyses import AnalysesTaken, analyses_taken
from sweeper.study.budget_probe import FACTORS
from sweeper.study.earlier_rates import RATES
from sweeper.study.finalist import BASELINE, LEADERS
from sweeper.study.learning_check import PROMISING
from sweeper.study.learning_rates import EXTENSIONS, GRID, is_one_rate
from sweeper.system.postgres import check_answers, is_postgres
from sweeper.workflow.options import asked_of, given_options
from sweeper.workflow.prepare import Speaker, prepare
from sweeper.workflow.request_checks import check_conditions, check_places, check_request, is_new_file
from sweeper.workflow.settings import Budget, Settings, describe

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage


MADE_BY_MLFLOW = {"sqlite", "mysql", "mssql"}
"""Schemes of the databases whose tables MLflow makes when it opens them; PostgreSQL's are others."""


class Trainings(Record):
    """How many trainings of one kind there will be, and of how many steps."""

    least: int
    most: int
    steps: int
    """Of each; of a probe's first budget."""


class Preview(Record):
    """What a sweep would do."""

    plan: studies.Plan
    pictures: tuple[int, int, int]
    """Of the search to train and to validate, of the confirmation to test."""
    done: int
    """Trials that a resume finds."""
    analyses: tuple[InterimAnalysis, ...]
    trainings: dict[str, Trainings]
    """By phase: probe, search, recheck, confirm."""


def preview(
    settings: Settings,
    speaker: Speaker,
    *,
    backend: Callable[[], Backend],
    clock: Callable[[], datetime],
) -> Preview:
    """Read and check data, space, recipe and study; the images are decoded into a folder that goes with the answer.

    Args:
        settings: what was asked for.
        speaker: is told of warnings.
        backend: makes the place that tells the hardware and builds the network once.
        clock: the time in UTC.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) as `run_sweep` would.
    """
    check_places(settings)
    storage = _storage(settings)
    check_request(storage, settings)
    _check_tracking(settings)
    with tempfile.TemporaryDirectory() as folder, closing(backend()) as place:
        own = settings.model_copy(update={"cache": Path(folder)})
        prepared = prepare(own, storage, place, speaker, clock())
        check_conditions(settings, prepared.plan.conditions, on_cpu=prepared.on_cpu)
    plan = prepared.plan
    options: dict[str, Any] = {}
    there = NOTHING
    if prepared.old is not None and storage is not None:
        options = studies.read_options(storage, prepared.name)
        there = _there(studies.load_study(storage, prepared.name), plan)
    asked = asked_of({**options, **given_options(settings)}, there.held)
    split = split_of(plan.conditions, plan.conditions.seed)
    return Preview(
        plan=plan,
        pictures=(len(split.train), len(split.val), len(scored_images(plan.conditions))),
        done=there.trials,
        analyses=asked.analyses,
        trainings=_trainings(plan, asked.trials, there, asked.analyses, asked.budget),
    )


class There(NamedTuple):
    """What a study holds already."""

    trials: int
    rechecks: int
    confirmations: int
    """Completed, with the plan's steps."""
    failed: int
    """Trainings of all phases that a run would train again."""
    interim: AnalysesTaken
    held: int = 0
    """Trials that it has or will have without being asked: failed ones and those that wait are among them."""


NOTHING = There(0, 0, 0, 0, AnalysesTaken())


def _there(study: optuna.Study, plan: studies.Plan) -> There:
    failed = studies.failed_trials(study)
    extra = {purpose: studies.extra_results(study, purpose) for purpose in ("recheck", "confirm")}
    complete = {purpose: [r for r in results if r.state == "complete"] for purpose, results in extra.items()}
    return There(
        trials=len(studies.search_results(study)) - len(failed),
        rechecks=len(complete["recheck"]),
        confirmations=sum(r.spec.steps == plan.conditions.recipe.confirm_steps for r in complete["confirm"]),
        failed=len(failed) + sum(len(extra[purpose]) - len(complete[purpose]) for purpose in extra),
        interim=analyses_taken(study.user_attrs),
        held=studies.held(study),
    )


def _storage(settings: Settings) -> RDBStorage | None:
    """The storage that is there; None where it would be made."""
    if is_new_file(settings.storage) and not settings.resume:
        return None
    try:
        return studies.open_storage(settings.storage, create=False)
    except MissingStudyError:
        if settings.resume:
            raise
        return None


def _check_tracking(settings: Settings) -> None:
    """Ask a server whether it answers.

    MLflow makes its tables in every database that it opens. So PostgreSQL is asked without it, other databases are not
    asked, and a file is checked with the places.

    Raises:
        UsageError: if it does not answer.
    """
    uri = settings.tracking_uri
    if is_postgres(uri):
        try:
            check_answers(uri)
        except UsageError as error:
            from sweeper.tracking import no_store

            raise no_store(uri, error) from error
    elif urlsplit(uri).scheme.partition("+")[0] not in MADE_BY_MLFLOW:
        from sweeper.tracking import Tracker

        Tracker(uri, warn=lambda _: None)


def _finished(plan: studies.Plan, trials: int, there: There, analyses: tuple[InterimAnalysis, ...]) -> bool:
    """Whether a run would train nothing: its search is complete, and its last interim analysis ended it."""
    interim = there.interim
    if there.trials < trials or there.failed or interim.cut is not None:
        return False
    if not interim.stored or interim.planned != analyses:
        return False
    last = interim.stored[-1]
    ended = not (last.go_on and last.families) or last.found.seeds >= analyses[-1].seeds
    return ended and interim.steps == plan.conditions.recipe.confirm_steps


def _trainings(
    plan: studies.Plan, trials: int, there: There, analyses: tuple[InterimAnalysis, ...], budget: Budget
) -> dict[str, Trainings]:
    if _finished(plan, trials, there, analyses):
        return {}
    done = there.trials
    recipe, families = plan.conditions.recipe, [family.family for family in plan.space.families]
    tried = min(len(families), trials)
    leaders = min(LEADERS, tried)
    finalists = leaders + (BASELINE in families[:tried] and tried > leaders)
    contested = tried > LEADERS
    fixed = is_one_rate(plan.space.lr)
    rates = 0 if fixed else (leaders + 2 * contested) * (RATES - 1)
    least = 0
    if plan.conditions.rates != "searched":
        rates, least = (0, 0) if fixed else (finalists * (GRID + EXTENSIONS), leaders * GRID)
    rotation = plan.conditions.folds or 1
    begun = done or budget == "given"
    probed = len(families) if budget == "ranking" and not begun and len(families) > 1 else 0
    probe = Trainings(least=2 * probed, most=len(FACTORS) * probed, steps=recipe.steps)
    if budget == "learns" and not begun:  # until one has learned, nearly always the first
        most = len(families) + min(PROMISING, len(families)) * (len(FACTORS) - 1)
        probe = Trainings(least=1, most=most, steps=recipe.steps)
    found = {
        "probe": probe,
        "search": Trainings(least=max(0, trials - done), most=max(0, trials - done), steps=recipe.steps),
        "recheck": Trainings(
            least=max(0, least - there.rechecks),
            most=max(0, rates + tried * contested - there.rechecks),
            steps=recipe.steps,
        ),
        "confirm": Trainings(
            least=max(0, analyses[0].seeds * leaders * rotation - there.confirmations),
            most=max(0, analyses[-1].seeds * finalists * rotation - there.confirmations),
            steps=recipe.confirm_steps,
        ),
    }
    return {name: trainings for name, trainings in found.items() if trainings.most}


def preview_text(found: Preview) -> str:
    """The same for people, a few lines."""
    plan, dataset = found.plan, found.plan.conditions.dataset
    train, val, test = found.pictures
    folds = plan.conditions.folds
    seeds = ", ".join(str(analysis.seeds) for analysis in found.analyses)
    lines = [
        f"data: {dataset.name}, {dataset.task}, {len(dataset.pictures)} images ({train} to train, {val} to validate, "
        f"{test} to test), classes {', '.join(dataset.classes)}",
        f"imbalance: {to_one(plan.imbalance)} in the training images",
        f"space: {plan.space.name}, {len(plan.space.families)} losses: "
        + ", ".join(family.family for family in plan.space.families),
        f"recipe: {describe(plan.conditions.recipe)}",
        f"interim analyses: after {seeds} seeds of each finalist, while it is open",
    ]
    if folds is not None:
        lines.append(
            f"{folds} folds, {NOT_HELD_OUT}: the search sees every image; each seed of a finalist is {folds} "
            "trainings, each scored on the fold that it did not see"
        )
    names = {"probe": "budget probe", "search": "search", "recheck": "rechecks", "confirm": "confirmation"}
    for name, trainings in found.trainings.items():
        ends = (trainings.least, trainings.most)
        number = str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        more = " and more" if name == "probe" else ""
        lines.append(f"{names[name]}: {number} trainings of {trainings.steps} steps{more}")
    if not found.trainings:
        lines.append(f"nothing is left to train: the study has its {found.done} trials and its confirmation")
    return "\n".join([*lines, "nothing was trained, and nothing written"])


def preview_json(found: Preview) -> dict[str, Any]:
    """The same for programs, schema `sweeper.preview/1`."""
    dataset, plan = found.plan.conditions.dataset, found.plan
    fields = {"name", "source", "digest", "task", "classes", "channels", "synthetic"}
    return {
        "schema": "sweeper.preview/1",
        "dataset": dataset.model_dump(mode="json", include=fields),
        "pictures": dict(zip(("train", "val", "test"), found.pictures, strict=True)),
        "profile": plan.profile.model_dump(mode="json"),
        "imbalance": plan.imbalance,
        "space": plan.space.model_dump(mode="json"),
        "recipe": plan.conditions.recipe.model_dump(mode="json"),
        "seed": plan.conditions.seed,
        "folds": plan.conditions.folds,
        "held_out": plan.conditions.folds is None,
        "looks": [analysis.model_dump(mode="json") for analysis in found.analyses],
        "trials_done": found.done,
        "trainings": {name: trainings.model_dump(mode="json") for name, trainings in found.trainings.items()},
    }
