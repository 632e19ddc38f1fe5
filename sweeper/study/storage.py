"""The study in Optuna's storage: the one source of truth, which resume and report read and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from filelock import Timeout
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sweeper.base import Record
from sweeper.errors import StudyError
from sweeper.locks import lock_beside, sqlite_path
from sweeper.records import (
    Conditions,
    ImbalanceProfile,
    Look,
    LookTaken,
    SearchSpace,
    SweepRecord,
    TrialResult,
)
from sweeper.study.pruner import FamilyPruner
from sweeper.study.sampler import KeyedTPESampler

RESULT = "result"
"""Trial attribute: the TrialResult as JSON."""
ABANDONED = "abandoned"
"""Trial attribute: why an attempt was cut off; such a trial does not count."""
PLAN = "plan"
OPTIONS = "options"
"""Study attribute: what was asked for on the command line, over all sessions."""
CONCLUDED = "looks"
"""Study attribute: from how many confirmations, with which looks and ROPE it was concluded, where these changed."""
PLANNED = "looks_planned"
"""Study attribute: each plan of looks that it was confirmed by, the one in force last."""
TAKEN = "looks_taken"
"""Study attribute: the `LooksTaken` of the confirmation at hand."""
WAVE = "wave"
"""Study attribute: the rechecks that were asked for last, and on how many trials they rest."""
PROBED = "probe"
"""Study attribute: where the budget probe began, and what it chose (`Probed`)."""
CUT = "cut"
"""Study attribute: what the time limit cut short in the last session, in sentences."""
TIMEOUT_SECONDS = 60
NAME_LIMIT = 200


class Plan(Record):
    """What a study was made for, written once when it is created."""

    created: str
    conditions: Conditions
    profile: ImbalanceProfile
    space: SearchSpace
    imbalance: float
    versions: dict[str, str]


def open_storage(url: str, *, create: bool = True) -> RDBStorage:
    """Open Optuna's storage; SQLite in write-ahead mode with a patient lock.

    With `create` a missing one is made, once, whoever else starts at the same time.

    Raises:
        StudyError: if the address is not a SQLite file's, the file cannot be opened, or is missing and not to be made.
    """
    path = sqlite_path(url)
    if path is None or ":memory:" in url or not path.name or set("?#") & set(url):
        raise StudyError(f"--storage must be sqlite:///FILE, got {url!r}; other databases are not supported yet")
    if not create and not path.exists():
        raise StudyError(f"--storage: there is no file {path}; name the one that the study was made in")
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # what happens is told by our own display
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_beside(path, "create"):  # a cold start of several at once would break the one that comes second
            with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
            return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": TIMEOUT_SECONDS}})
    except (sqlite3.Error, SQLAlchemyError, RuntimeError, OSError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(f"--storage {url} must be an Optuna SQLite file that can be written: {text}") from error


@contextmanager
def sole_use(url: str, name: str) -> Iterator[None]:
    """Keep others from running this study for as long as the block lasts, or the process lives.

    Raises:
        StudyError: if another process is running it.
    """
    path = sqlite_path(url)
    assert path is not None
    lock = lock_beside(path, f"study.{name}")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(
            f"study {name!r} is being run by another process; wait for it, or start another study with --study"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_name(name: str) -> None:
    """Refuse names that a database, a folder or a terminal would not take.

    Raises:
        StudyError: if the name is empty, longer than 200 characters, or holds control characters.
    """
    if not name.strip() or len(name) > NAME_LIMIT or not name.isprintable():
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise StudyError(
            f"--study must be 1 to {NAME_LIMIT} printable characters, got {len(name)}: {shown!r}; choose a shorter, "
            "plainer name"
        )


def study_names(storage: RDBStorage) -> list[str]:
    """Names of all studies, newest last."""
    return [study.study_name for study in storage.get_all_studies()]


def _study(storage: RDBStorage, name: str, seed: int, *, load: bool) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        sampler=KeyedTPESampler(seed),
        pruner=FamilyPruner(),
        load_if_exists=load,
    )


def create_study(storage: RDBStorage, name: str, plan: Plan) -> optuna.Study:
    """Make a new study with its plan.

    Raises:
        StudyError: if the name is taken.
    """
    try:
        study = _study(storage, name, plan.conditions.seed, load=False)
    except optuna.exceptions.DuplicatedStudyError:
        raise StudyError(
            f"study {name!r} exists already; add --resume to continue it, or choose another name with --study"
        ) from None
    study.set_user_attr(PLAN, plan.model_dump(mode="json"))
    return study


def replace_plan(study: optuna.Study, plan: Plan) -> None:
    """Store the plan of a resume: the same but for what `differences` allows (confirmation steps, where pixels lie)."""
    study.set_user_attr(PLAN, plan.model_dump(mode="json"))


def read_plan(storage: RDBStorage, name: str) -> Plan:
    """The plan of an existing study.

    Raises:
        StudyError: if there is no such study, or it is not one of sweeper's.
    """
    names = study_names(storage)
    if name not in names:
        known = ", ".join(names[-5:]) or "none"
        raise StudyError(f"there is no study {name!r} in this storage; the newest are: {known}")
    attributes = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    if PLAN not in attributes:
        raise StudyError(
            f"study {name!r} was not made by sweeper, or was cut off while being made; choose another name"
        )
    return Plan.model_validate(attributes[PLAN])


def load_study(storage: RDBStorage, name: str, plan: Plan) -> optuna.Study:
    """Open an existing study for going on with it."""
    return _study(storage, name, plan.conditions.seed, load=True)


def differences(old: Plan, new: Plan) -> list[str]:
    """What differs between two plans so that their trials could not be compared, each as `what: old → new`."""
    found = []
    if old.conditions.dataset.digest != new.conditions.dataset.digest:
        ours, theirs = old.conditions.dataset, new.conditions.dataset
        found.append(
            f"data set: {ours.name} ({len(ours.pictures)} pictures, {ours.digest[:19]}…) → "
            f"{theirs.name} ({len(theirs.pictures)} pictures, {theirs.digest[:19]}…)"
        )
        if ours.resized != theirs.resized:
            found.append(f"resize: {ours.resized or 'native'} → {theirs.resized or 'native'}")
    if old.conditions.seed != new.conditions.seed:
        found.append(f"seed: {old.conditions.seed} → {new.conditions.seed}")
    # More steps to confirm only ask for other confirmations: the search stands.
    recipes = [plan.conditions.recipe.model_dump(exclude={"confirm_steps"}) for plan in (old, new)]
    found += _changed("recipe", *recipes)
    before, after = (
        {
            "lr": plan.space.lr.model_dump(),
            **{f.family: {k: c.model_dump() for k, c in f.coordinates.items()} for f in plan.space.families},
        }
        for plan in (old, new)
    )
    return found + _changed("space", before, after)


def _changed(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [*old, *(key for key in new if key not in old)]
    return [
        f"{what}.{key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the total: finished, and not an attempt that was cut off."""
    return trial.state.is_finished() and ABANDONED not in trial.user_attrs


def result_of(trial: FrozenTrial) -> TrialResult:
    """The result stored with a counted trial."""
    return TrialResult.model_validate(trial.user_attrs[RESULT])


def search_results(study: optuna.Study) -> list[TrialResult]:
    """Results of all counted trials, by number."""
    return [result_of(t) for t in study.get_trials(deepcopy=False) if counted(t) and RESULT in t.user_attrs]


def extra_results(study: optuna.Study, purpose: str) -> list[TrialResult]:
    """Results of all trainings of a purpose other than `search`, by number."""
    return _extra(study.user_attrs, purpose)


def all_results(study: optuna.Study) -> list[TrialResult]:
    """Results of all trainings, the search's last."""
    extra = [r for purpose in ("probe", "recheck", "confirm") for r in extra_results(study, purpose)]
    return extra + search_results(study)


def _extra(attributes: Mapping[str, Any], purpose: str) -> list[TrialResult]:
    keys = sorted(key for key in attributes if key.startswith(f"{purpose}/"))
    return [TrialResult.model_validate(attributes[key]) for key in keys]


def store_extra(study: optuna.Study, result: TrialResult) -> None:
    """Keep a training that is not one of the search's with the study, as `confirm/00000` and the like."""
    study.set_user_attr(f"{result.spec.purpose}/{result.spec.number:05d}", result.model_dump(mode="json"))


def load_sweep(storage: RDBStorage, name: str) -> SweepRecord:
    """Everything the report needs, from the storage alone.

    Raises:
        StudyError: as `read_plan`.
    """
    plan = read_plan(storage, name)
    study = load_study(storage, name, plan)
    attributes = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    planned = plans_of_looks(attributes)
    return SweepRecord(
        study=name,
        created=plan.created,
        conditions=plan.conditions,
        profile=plan.profile,
        space=plan.space,
        imbalance=plan.imbalance,
        trials_asked=int(attributes.get("trials", 0)),
        confirm_seeds=int(attributes.get("confirm_seeds", 0)),
        rope=float(attributes.get("rope", 0.01)),
        trials=tuple(search_results(study)),
        abandoned=sum(ABANDONED in t.user_attrs for t in trials),
        confirmations=tuple(_extra(attributes, "confirm")),
        rechecks=tuple(_extra(attributes, "recheck")),
        probes=tuple(_extra(attributes, "probe")),
        looks_planned=planned[-1] if planned else (),
        looks_taken=looks_taken(attributes).looks,
        timeout=attributes.get("timeout"),
        cut=tuple(attributes.get(CUT, [])),
        experiment_id=attributes.get("experiment_id"),
        parent_run_id=attributes.get("parent_run_id"),
        seconds=float(attributes.get("seconds", 0.0)),
        command=str(attributes.get("command", "")),
        looks=max(1, len(attributes.get(CONCLUDED, []))),
        workers=attributes.get("workers"),
        versions=plan.versions,
    )


class LookStored(Record):
    """A look with what a resume needs to go on as if it had not been cut off."""

    found: LookTaken
    used: tuple[int, ...]
    """Numbers of the confirmations that it looked at."""
    go_on: bool
    families: tuple[str, ...]
    """Finalists that go on."""


class LooksTaken(Record):
    """The looks at one confirmation: of these finalists, by this plan."""

    finalists: tuple[str, ...] = ()
    """Each finalist's configuration, as text."""
    steps: int = 0
    planned: tuple[Look, ...] = ()
    first: int = 0
    """Index of the look that it began with: of another plan than before, one for which the seeds were there."""
    active: tuple[str, ...] | None = None
    """Families that it began with; None = all finalists."""
    stored: tuple[LookStored, ...] = ()
    cut: LookTaken | None = None
    """What was found when the time was up between two planned looks."""

    @property
    def looks(self) -> tuple[LookTaken, ...]:
        """For the report: where the time was up with nothing new to see, that is the last look's ending."""
        found = [look.found for look in self.stored]
        if self.cut is None:
            return tuple(found)
        return (*(look for look in found if look.seeds != self.cut.seeds), self.cut)


def looks_taken(attributes: Mapping[str, Any]) -> LooksTaken:
    """The looks stored in a study's attributes."""
    return LooksTaken.model_validate(attributes.get(TAKEN, {}))


def plans_of_looks(attributes: Mapping[str, Any]) -> list[tuple[Look, ...]]:
    """Every plan of looks that the study was confirmed by, the one in force last."""
    return [tuple(Look.model_validate(look) for look in looks) for looks in attributes.get(PLANNED, [])]


def read_options(storage: RDBStorage, name: str) -> dict[str, Any]:
    """What was asked for on the command line so far."""
    options: dict[str, Any] = storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(OPTIONS, {})
    return options


def tell(study: optuna.Study, result: TrialResult) -> None:
    """End a trial in Optuna by its stored result."""
    if result.state == "complete":
        study.tell(result.spec.number, result.value)
    else:
        study.tell(result.spec.number, state=TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL)


def note_conclusion(study: optuna.Study) -> None:
    """Remember that the test split's scores were concluded from, and how, unless it was so the last time.

    Other confirmations, another plan of looks and another ROPE are all occasions for chance. Without a confirmation
    nothing was seen.
    """
    attributes = study.user_attrs
    confirmations = sum(key.startswith("confirm/") for key in attributes)
    if not confirmations:
        return
    plans = plans_of_looks(attributes)
    drawn = [confirmations, [look.seeds for look in plans[-1]] if plans else [], attributes.get("rope")]
    concluded = list(attributes.get(CONCLUDED, []))
    if not concluded or concluded[-1] != drawn:
        study.set_user_attr(CONCLUDED, [*concluded, drawn])


def reconcile(study: optuna.Study) -> int:
    """Mark what an earlier crash left RUNNING as abandoned, and queue it once more; how many there were.

    A trial whose result was stored and not yet told when the crash came is told now: it is not trained twice.
    """
    left = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
    for trial in left:
        if RESULT in trial.user_attrs:
            tell(study, result_of(trial))
        else:
            abandon(study, trial.number, "the sweep was cut off")
    return len(left)


def abandon(study: optuna.Study, number: int, reason: str, *, deaths: int = 0) -> None:
    """End an attempt without counting it, and queue the same parameters again.

    `deaths` is how many workers died under this configuration so far.
    """
    trial = study.get_trials(deepcopy=False)[number]
    trial_id = trial._trial_id
    study._storage.set_trial_user_attr(trial_id, ABANDONED, reason)
    study.tell(number, state=TrialState.FAIL)
    fixed = dict(trial.system_attrs.get("fixed_params", {}))
    before = deaths or int(trial.user_attrs.get("deaths", 0))
    study.enqueue_trial({**fixed, **trial.params}, user_attrs={"deaths": before, "retry_of": number})
