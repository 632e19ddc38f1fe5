"""A study in MLflow: what its runs are made from, and `sweeper mlflow`, which writes what a store lacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sweeper import storage as studies
from sweeper.core.document import Document
from sweeper.core.errors import SweeperError
from sweeper.core.paths import view_place
from sweeper.core.records import SweepRecord
from sweeper.core.redact import shown_address
from sweeper.workflow.conclude import Outcome, report_study

if TYPE_CHECKING:
    from sweeper.tracking import Summary


class MlflowDocument(Document):
    """What `sweeper mlflow` prints."""

    SCHEMA: ClassVar[str] = "sweeper.mlflow/1"

    study: str
    tracking_uri: str
    """Without a password."""
    trainings: int
    made: int
    completed: int


def summary_for_mlflow(outcome: Outcome) -> Summary:
    """What MLflow is told of the outcome."""
    from sweeper.report.facts import collect
    from sweeper.report.markdown import summary
    from sweeper.tracking import Summary

    recommendation = outcome.recommendation
    tags = {"sweeper.verdict": recommendation.verdict.value}
    if recommendation.action is not None:
        tags["sweeper.action"] = recommendation.action
    values: dict[str, float] = {}
    if recommendation.recommended is not None and recommendation.evidence is not None:
        tags["sweeper.recommended"] = recommendation.recommended.family
        for finalist in recommendation.evidence.finalists:
            if finalist.family == recommendation.recommended.family:
                miou = finalist.miou
                values = {"test/miou": miou.estimate, "test/miou_ci_low": miou.low, "test/miou_ci_high": miou.high}
    note = _places(outcome.sweep) + summary(collect(outcome.sweep, recommendation))
    return Summary(note, tags, values, outcome.paths.folder)


def _places(sweep: SweepRecord) -> str:
    """Where MLflow shows the rest: the note's first line. Relative, as people reach one server by many names."""
    if sweep.experiment_id is None or sweep.parent_run_id is None:
        return ""
    table, finalists = view_place(sweep.experiment_id), view_place(sweep.experiment_id, "finalists")
    return f"[All trainings]({table}) · [finalists]({finalists})\n\n"


def sync_mlflow(
    storage_url: str, name: str, *, tracking_uri: str, out: Path, warn: Callable[[str], None]
) -> MlflowDocument:
    """Write what MLflow lacks of a study, from the study's storage; another call changes nothing.

    For a study that was concluded the report is written again, too, and becomes the sweep's artifacts.

    Args:
        storage_url: Optuna's address.
        name: the study's.
        tracking_uri: MLflow's address; the study keeps the ids of the runs there.
        out: folder of the reports.
        warn: is told what people should not miss.

    Raises:
        StudyError: if there is no such study, or a process is running it.
        UsageError: if MLflow does not answer.
        SweeperError: if it does not take everything; a repeated call goes on from there.
    """
    from sweeper.tracking import Tracker

    storage = studies.open_storage(storage_url, create=False, warn=warn)
    plan = studies.read_plan(storage, name)
    study = studies.load_study(storage, name)
    with studies.sole_use(storage_url, name), closing(Tracker(tracking_uri, warn=warn)) as tracker:
        concluded = studies.is_concluded(study.user_attrs)
        status = "FINISHED" if concluded else "KILLED"
        tracker.begin(study, plan, storage=storage_url, status=status)
        tracker.decide(plan.conditions)
        lacks = tracker.catch_up()
        if concluded and lacks is None:
            tracker.conclude(status, summary_for_mlflow(report_study(storage, name, out=out)))
            lacks = tracker.catch_up()
    if lacks is not None:
        raise SweeperError(lacks)
    trainings = len(studies.all_results(study)) + len(studies.waiting_results(study))
    return MlflowDocument(
        study=name,
        tracking_uri=shown_address(tracking_uri),
        trainings=trainings,
        made=len(tracker.mirror.made),
        completed=len(tracker.mirror.completed),
    )
