"""A study in MLflow: the summary of its run, and `sweeper studies sync`, which writes what a store lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import Gain, Outcome
from sweeper.evidence.phrases import format_head, format_headline
from sweeper.workflow.conclude import ReportedStudy, report_study

if TYPE_CHECKING:
    from sweeper.evidence.document import AnswerDocument
    from sweeper.tracking import SweepSummary


class SyncedRuns(NamedTuple):
    """Numbers of the trainings of a study, of the runs made for them, and of those completed."""

    trainings: int
    made: int
    completed: int


def make_mlflow_summary(outcome: ReportedStudy) -> SweepSummary:
    """Return the summary of a study's outcome for its run in MLflow."""
    return summarise_answer(outcome.document, outcome.paths.folder)


def summarise_answer(document: AnswerDocument, folder: Path, *, scores: Sequence[str] = ("miou",)) -> SweepSummary:
    """Return the summary of an answer for MLflow; `scores` are the names of the used loss's score on the test."""
    from sweeper.report.markdown import format_note
    from sweeper.tracking import SweepSummary
    from sweeper.tracking.values import drop_missing

    tags = {"sweeper.outcome": document.outcome.value, "sweeper.sure": document.sure.value}
    tags |= {"sweeper.answer": format_headline(document).replace("`", "")}
    values: dict[str, float | None] = {"cost": document.cost}
    if document.outcome in (Outcome.CHANGE, Outcome.KEEP):  # who keeps the present loss gains nothing over it
        values |= _list_ends("gain", document.gain or Gain(estimate=0.0, low=0.0, high=0.0))
    for row in document.losses:
        if row.loss == document.used:
            tags["sweeper.use"] = row.loss
            values |= {f"test/{name}": row.mean for name in scores}
            score = row.score if row.test is None else row.test.miou
            if score is not None:
                values |= {key: end for name in scores for key, end in _list_ends(f"test/{name}", score).items()}
    compared = {run_id for row in document.losses for run_id in row.mlflow_run_ids}
    head = format_head(document)
    return SweepSummary(format_note(document), tags, drop_missing(values), folder, head, compared)


def _list_ends(name: str, gain: Gain) -> dict[str, float]:
    return {name: gain.estimate, f"{name}_ci_low": gain.low, f"{name}_ci_high": gain.high}


def sync_mlflow(
    storage_url: str, name: str, *, tracking_uri: str, out: Path, warn: Callable[[str], None]
) -> SyncedRuns:
    """Write what MLflow lacks of a study, from the study's storage; a second call changes nothing.

    The report of a concluded study is written again, too, and becomes the sweep's artifacts.

    Raises:
        StudyError: if there is no such study, or a process is running it.
        UsageError: if MLflow does not answer.
        SweeperError: if it does not take everything; a repeated call continues from there.
    """
    from sweeper.tracking import MlflowTracker

    storage = studies.open_storage(storage_url, create=False, warn=warn)
    plan = studies.read_plan(storage, name)
    study = studies.open_study(storage, name)
    with studies.hold_study(storage_url, name), closing(MlflowTracker(tracking_uri, warn=warn)) as tracker:
        concluded = studies.is_concluded(study.user_attrs)
        status = "FINISHED" if concluded else "KILLED"
        tracker.begin_sweep(study, plan, storage=storage_url, status=status)
        tracker.update_plan(plan.conditions)
        lacks = tracker.wait_until_written()
        if concluded and lacks is None:
            tracker.conclude_sweep(status, make_mlflow_summary(report_study(storage, name, out=out)))
            lacks = tracker.wait_until_written()
    if lacks is not None:
        raise SweeperError(lacks)
    trainings = len(studies.list_all_results(study)) + len(studies.list_waiting_results(study))
    return SyncedRuns(trainings, made=len(tracker.mirror.made), completed=len(tracker.mirror.completed))
