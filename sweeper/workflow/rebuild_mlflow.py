"""MLflow's copy of a study, written again: the store was lost, was away to the end, or another one is to have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.mlflow_pages import view_place
from sweeper.core.paths import slug
from sweeper.core.records import Evidence, SweepRecord, TrialResult
from sweeper.system.locks import spool_folder
from sweeper.workflow.conclude import Outcome, report_study

if TYPE_CHECKING:
    import optuna

    from sweeper.tracking import Rebuilt, Training


class Summary(NamedTuple):
    """What the sweep's own run says of the outcome."""

    note: str
    tags: dict[str, str]
    values: dict[str, float]
    finalists: dict[str, Path]
    """Files for runs of confirmations, by their ids: of each finalist the run of the first seed."""


def summary_for_mlflow(outcome: Outcome) -> Summary:
    """Description, tags and metrics of the sweep's run."""
    from sweeper.report import report_summary

    recommendation = outcome.recommendation
    tags = {"sweeper.verdict": recommendation.verdict.value}
    values: dict[str, float] = {}
    if recommendation.recommended is not None and recommendation.evidence is not None:
        tags["sweeper.recommended"] = recommendation.recommended.family
        for finalist in recommendation.evidence.finalists:
            if finalist.family == recommendation.recommended.family:
                miou = finalist.miou
                values = {"test/miou": miou.estimate, "test/miou_ci_low": miou.low, "test/miou_ci_high": miou.high}
    if recommendation.evidence is not None:
        values |= _finalists(recommendation.evidence)
    note = _places(outcome.sweep) + report_summary(outcome.sweep, recommendation)
    return Summary(note, tags, values, _files_of_finalists(outcome))


def _files_of_finalists(outcome: Outcome) -> dict[str, Path]:
    """Of those that have a run: where MLflow was away there is none, and no image where nothing was kept to draw."""
    evidence = outcome.recommendation.evidence
    finalists = () if evidence is None else evidence.finalists
    folders = {f.run_ids[0]: outcome.paths.of_finalist(f.family) for f in finalists if f.run_ids}
    return {run_id: folder for run_id, folder in folders.items() if folder.is_dir()}


def _finalists(evidence: Evidence) -> dict[str, float]:
    """Each finalist's test mIoU, and its gains over cross-entropy: tuned (`gain`), and as people train it."""
    versus = {c.first: c.difference for c in evidence.comparisons if c.second == evidence.baseline}
    values: dict[str, float] = {}
    for index, finalist in enumerate(evidence.finalists):
        intervals = {"test_miou": finalist.miou, "gain": versus.get(index), "gain_over_plain": finalist.vs_plain}
        for name, interval in intervals.items():
            if interval is not None:
                own = f"finalist/{slug(finalist.family)}/{name}"
                values |= {own: interval.estimate, f"{own}_ci_low": interval.low, f"{own}_ci_high": interval.high}
    return values


def _places(sweep: SweepRecord) -> str:
    """Where MLflow shows the rest: the note's first line. Relative, as people reach one server by many names."""
    if sweep.experiment_id is None or sweep.parent_run_id is None:
        return ""
    table, charts = view_place(sweep.experiment_id), view_place(sweep.experiment_id, charts=True)
    finalists = view_place(sweep.experiment_id, "finalists")
    return f"[All trainings]({table}) · [charts]({charts}) · [finalists]({finalists})\n\n"


def rebuild_mlflow(
    storage_url: str, name: str, *, tracking_uri: str, out: Path, warn: Callable[[str], None]
) -> Rebuilt:
    """Write all runs of a study that MLflow lacks, with what the study's storage holds; another call changes nothing.

    Parameters, metrics of every evaluation, results, states and tags are the same as of the sweep itself. A trial's
    times are those that Optuna kept; of other trainings only the duration is known, and they begin with the study
    (probes) or when the search had ended. Attempts that were cut off are not in the study, and so not in MLflow. For a
    study that was concluded the report is written again, too, and becomes the sweep's artifacts.

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
    from sweeper.tracking import Rebuild

    storage = studies.open_storage(storage_url, create=False, warn=warn)
    plan = studies.read_plan(storage, name)
    study = studies.load_study(storage, name)
    created = datetime.fromisoformat(plan.created).timestamp()
    with studies.sole_use(storage_url, name):
        rebuild = Rebuild(tracking_uri, warn=warn, mark=plan.created, spool=spool_folder(storage_url))
        sweep = studies.load_sweep(storage, name)
        results = {_key(r): r for rs in (sweep.probes, sweep.trials, sweep.rechecks, sweep.confirmations) for r in rs}
        done = rebuild.write(
            name,
            plan.conditions,
            _trainings(study, results.values(), created),
            parents=studies.parents(study),
            settings={"trials": str(sweep.trials_asked), "space": plan.space.name},
            created=created,
            found=lambda runs: studies.note_runs(study, runs),
            space=plan.space,
            profile=plan.profile,
        )
        studies.note_parent(study, rebuild.experiment_id, rebuild.parent_run_id)
        changed = {key: run for key, run in done.runs.items() if key not in results or results[key].run_id != run}
        studies.note_runs(study, changed)
        if studies.is_concluded(study.user_attrs):
            outcome = report_study(storage, name, out=out)
            summary = summary_for_mlflow(outcome)
            rebuild.conclude("FINISHED", folder=outcome.paths.folder, **summary._asdict())
        else:
            rebuild.leave()
    return done


def _key(result: TrialResult) -> str:
    return f"{result.spec.purpose}/{result.spec.number:05d}"


def _trainings(study: optuna.Study, results: Iterable[TrialResult], created: float) -> list[Training]:
    """Every training of a study, with when it began, as far as that is known."""
    from sweeper.tracking import Training

    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    ended = max((t.datetime_complete.timestamp() for t in trials.values() if t.datetime_complete), default=created)

    def began(result: TrialResult) -> float:
        if result.spec.purpose != "search":
            return created if result.spec.purpose == "probe" else ended
        started = trials[result.spec.number].datetime_start
        return created if started is None else started.timestamp()

    def over(result: TrialResult) -> float:
        done = trials[result.spec.number].datetime_complete if result.spec.purpose == "search" else None
        return began(result) + result.seconds if done is None else done.timestamp()

    return [
        *(Training(result, began(result), over(result)) for result in results),
        *(Training(result, began(result), paused=True) for result in studies.waiting_results(study)),
    ]
