"""List, compare and delete the studies of a storage."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from sweeper import storage as studies
from sweeper.core.document import Document
from sweeper.core.errors import DamagedError, StudyError, SweeperError, UsageError
from sweeper.core.paths import COMPARISONS, ReportPaths
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_count
from sweeper.core.training_files import get_checkpoints_dir, get_weights_dir
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.phrases import format_headline
from sweeper.scripts.comparison_plan import ANSWER, PLAN, count_ended, open_plan
from sweeper.storage.resilient_storage import RetryingStorage
from sweeper.system.whole_files import load_record, save_record
from sweeper.training.weights_file import read_record
from sweeper.workflow.options import read_request
from sweeper.workflow.status import COMPARISON_STATUS, diagnose_sweep, get_status_file, read_life
from sweeper.workflow.study_state import InterimAnswer, read_interim_answer, read_study_state


class StudyRow(InterimAnswer):
    """State of one study, or comparison in the user's script."""

    study: str
    state: Literal["running", "finished", "stopped", "failed", "gone", "unknown", "damaged"]
    """`gone`: its process ended without reporting its end. `unknown`: no status file is here, as for a study of another
    machine."""
    created: str | None = None
    """UTC, ISO 8601."""
    data: str | None = None
    trials: int = 0
    """Trials that ended, or wait at a rung."""
    asked: int = 0
    """Total number of trials: the requested one; after a search that ended by itself, the trials that it has."""
    confirmations: int = 0
    """Trainings of the confirmation that ended."""
    problem: str | None = None


class StudiesDocument(Document):
    """Document that `sweeper studies` prints."""

    SCHEMA: ClassVar[str] = "sweeper.studies/1"

    studies: tuple[StudyRow, ...]


def list_study_rows(storage: RetryingStorage, url: str) -> list[StudyRow]:
    """Return the state of each study of a storage, the newest last; nothing is written."""
    return [_make_row(storage, url, name) for name in studies.list_study_names(storage)]


def _make_row(storage: RetryingStorage, url: str, name: str) -> StudyRow:
    try:
        sweep, study = studies.load_sweep(storage, name), studies.open_study(storage, name)
        request = read_request(study)
        request = request._replace(trials=sweep.trials_asked or request.trials, settles=sweep.settles)
        state, answer = read_study_state(study, studies.read_plan(storage, name), request), read_interim_answer(sweep)
    except (SweeperError, ValueError) as error:  # one damaged study must not hide the others
        return StudyRow(study=name, state="damaged", problem=" ".join(str(error).split()))
    life, session = read_life(get_status_file(url, name)), str(study.user_attrs.get(studies.SESSION, ""))
    activity = "unknown"
    if life is not None and life.study == name:
        activity = diagnose_sweep(life, time.time(), url, session).activity
    return StudyRow(
        **dict(answer),
        study=name,
        state=activity,
        created=sweep.created,
        data=sweep.conditions.dataset.name,
        trials=state.search.done,
        asked=state.total,
        confirmations=state.confirm.done,
    )


def list_comparison_rows(base: Path = COMPARISONS) -> list[StudyRow]:
    """Return the state of each comparison in a script below a folder, the newest last; nothing is written."""
    files = sorted(base.glob(f"*/{PLAN}"), key=lambda file: file.stat().st_mtime)
    return [_make_comparison_row(file.parent) for file in files]


def _make_comparison_row(folder: Path) -> StudyRow:
    try:
        plan = open_plan(folder)
    except UsageError as error:
        return StudyRow(study=folder.name, state="damaged", problem=" ".join(str(error).split()))
    answer, life = InterimAnswer(), read_life(folder / COMPARISON_STATUS)
    with suppress(OSError, ValueError):
        answer = load_record(folder / ANSWER, InterimAnswer)
    ended, state = count_ended(folder), "finished" if answer.outcome else "unknown"
    if life:
        state = diagnose_sweep(life, time.time()).activity
    return StudyRow(
        **dict(answer),
        study=plan.name,
        state=state,
        created=plan.created,
        data=plan.probe.command,
        trials=ended["tune"],
        asked=len(plan.losses) * len(plan.rates) if len(plan.rates) > 1 else 0,
        confirmations=ended["confirm"],
    )


def write_comparison_answer(folder: Path, document: AnswerDocument) -> None:
    """Write the answer of a comparison into its folder, for the list of studies."""
    scores = {row.loss: row.mean for row in document.losses}
    answer = InterimAnswer(
        outcome=document.outcome,
        sure=document.sure,
        loss=document.used or None,
        score=scores.get(document.used),
        on="test",
        answer=format_headline(document),
    )
    save_record(folder / ANSWER, answer)


class Deletion(NamedTuple):
    """Plan of deleting a study."""

    files: tuple[Path, ...]
    """Folders and files that belong only to the study: paused trainings, weights, status."""
    goes: str
    """Records and files that are deleted, one in a line."""
    stays: str
    """Records and files that are kept, one in a line."""


def plan_deletion(storage: RetryingStorage, url: str, name: str, *, cache: Path, out: Path) -> Deletion:
    """Return what `remove_study` would remove and keep.

    Raises:
        StudyError: if there is no such study.
    """
    study = studies.open_study(storage, name)
    try:
        digest = studies.read_plan(storage, name).conditions.dataset.digest
    except DamagedError:
        digest = None
    except StudyError:
        if study.trials:  # another program's study
            raise
        digest = None  # its creation was interrupted
    trained = [get_checkpoints_dir(cache, name), get_weights_dir(cache, name)]
    # Their names contain only the study's name, and a study of this name in another storage may share them.
    all_of_it = digest is not None and all(_is_weights_of(path, digest) for path in trained[1].glob("*.safetensors"))
    files = [*(trained if all_of_it else ()), get_status_file(url, name)]
    existing = tuple(path for path in files if path.exists())
    trainings = format_count(len(studies.list_all_results(study)), "training")
    goes = [f"{trainings} of study {name} in {hide_address_secrets(url)}", *existing]
    stays = [f"decoded images in {cache}", f"the report in {ReportPaths(out, name).folder}", "MLflow's runs"]
    if not all_of_it:
        stays += [f"{path}, which may be of another study of this name" for path in trained if path.exists()]
    return Deletion(existing, *("\n".join(f"  - {line}" for line in lines) for lines in (goes, stays)))


def _is_weights_of(weights: Path, digest: str) -> bool:
    """Return whether a file of weights was trained on this data; False for foreign or damaged files."""
    try:
        return read_record(weights).digest == digest
    except UsageError:
        return False


def remove_study(storage: RetryingStorage, url: str, name: str, deletion: Deletion) -> None:
    """Delete a study: its records, then its files.

    Raises:
        StudyError: if a process is running it.
        SweeperError: if a file cannot be deleted; the records are already deleted then.
    """
    with studies.hold_study(url, name):
        studies.delete_study(storage, name)
    try:
        for path in deletion.files:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:  # of a link only the link
                path.unlink(missing_ok=True)
    except OSError as error:
        raise SweeperError(
            f"the records of study {name} are deleted, and {error.filename} could not be: {error.strerror}; delete it "
            "by hand"
        ) from error
