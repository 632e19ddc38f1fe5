"""A comparison in the user's script as runs of MLflow: each training when it has ended, and at the end the answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sweeper.core.tasks import RULES, list_values
from sweeper.evidence.document import AnswerDocument
from sweeper.scripts.comparison_plan import ConfirmationPlan
from sweeper.scripts.confirm import FIRST_SEED
from sweeper.scripts.trainings import TrainingRow
from sweeper.tracking import MlflowWriter
from sweeper.tracking.mirror import SWEEP
from sweeper.tracking.prepared_views import make_prepared_views
from sweeper.tracking.values import (
    OPENS_PARENT,
    STATE,
    STATUS,
    TAG_LIMIT,
    DesiredRun,
    MetricPoint,
    drop_missing,
    format_parameter,
    make_dataset_input,
)
from sweeper.workflow.mlflow_sync import summarise_answer


class ComparisonRuns(MlflowWriter):
    """Writes a comparison to MLflow; a failing store stops no training, and a resume writes what the store lacks."""

    def __init__(
        self,
        uri: str,
        plan: ConfirmationPlan,
        log: Callable[[str], None],
        *,
        resume_command: str,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Find or create the comparison's run, in an experiment of its name.

        `resume_command` resumes it, and `stopped` returns whether the user wants to stop waiting.

        Raises:
            UsageError: if the store does not accept it.
            SweeperError: if the experiment was deleted there.
        """
        super().__init__(uri, warn=log, log=log, stopped=stopped)
        self._plan = plan
        self._metrics = ("value", plan.metric) if plan.task.has_counts else ("value",)
        digest = hashlib.sha256(str(plan.probe.class_pixels).encode()).hexdigest()
        self._images = make_dataset_input("the script's", digest, "local", plan.probe.command, "confirmation")
        run = DesiredRun(
            name=SWEEP,
            tags={"sweeper.kind": SWEEP},
            params={"command": plan.probe.command, "losses": ", ".join(loss.name for loss in plan.losses)},
            dataset=self._images,
            start=int(time.time() * 1000),
            status="RUNNING",
            end=0,
        )
        self._open_sweep(plan.name, run, plan.created or plan.name, resume=resume_command, command=resume_command)
        free = {key for loss in plan.losses for key in loss.params}
        views = make_prepared_views(free, self._metrics[-1], tried="tune")
        present = self.mirror.client.get_experiment(self.mirror.experiment_id).tags  # of a study of the same name
        self._start_writing({key: view for key, view in views.items() if key not in present})

    def write_training(self, row: TrainingRow) -> None:
        """Write the run of a training that has ended."""
        name = self._make_name(row)
        self._put_task("run", name, partial(self.mirror.write_run, name, self._make_run(row)))

    def write_answer(self, document: AnswerDocument, trainings: Sequence[TrainingRow], folder: Path) -> None:
        """Write the answer, the report's files, and the runs that MLflow lacks, and wait briefly for that."""
        for training in trainings:
            self.write_training(training)
        self.end_sweep("FINISHED", summarise_answer(document, folder, scores=self._metrics))

    def _make_name(self, row: TrainingRow) -> str:
        """Return the name of a training's run, short as MLflow's table truncates names."""
        return f"{row.purpose}/{self._number_training(row):05d}"

    def _number_training(self, row: TrainingRow) -> int:
        """Return the training's number within its purpose, which more seeds do not change."""
        losses = [loss.name for loss in self._plan.losses]
        if row.purpose == "tune":
            before = self._plan.rates.index(row.lr_factor)
        else:
            before = (row.seed - FIRST_SEED) * (self._plan.folds or 1) + (row.fold or 0)
        return before * len(losses) + losses.index(row.loss)

    def _make_run(self, row: TrainingRow) -> DesiredRun:
        plan, now = self._plan, int(time.time() * 1000)
        loss = next(loss for loss in plan.losses if loss.name == row.loss)
        state = "failed" if row.state == "failed" else "complete"
        fold = {} if row.fold is None else {"fold": str(row.fold + 1)}
        seed = " ".join([f"seed {row.seed}", *(f"{name} {number}" for name, number in fold.items())])
        what = seed if row.purpose == "confirm" else f"rate {row.lr_factor:.3g}"
        texts = {
            "sweeper.kind": row.purpose,
            "sweeper.family": loss.family,
            "sweeper.trial": str(self._number_training(row)),
            STATE: state,
            "mlflow.parentRunId": self.mirror.parent_run_id,
            **OPENS_PARENT,
            **{f"sweeper.own_run.{tracker}": run for tracker, run in row.own_runs.items()},
            "sweeper.collapse": "diverged" if row.state == "diverged" else "",
            "sweeper.reason": row.problem,
        }
        params = {"loss.family": row.loss, "seed": str(row.seed), "share": format_parameter(row.share), **fold}
        params |= {f"loss.{name}": format_parameter(value) for name, value in loss.params.items()}
        params |= {"lr_factor": format_parameter(row.lr_factor)}
        point = RULES[plan.task.task].point_key
        scores = {"val": row.val, "test": row.test}
        values = {f"{split}/{name}": score for split, score in scores.items() for name in self._metrics}
        points = [] if row.point is None else list_values(row.point)
        values |= {f"val/{point}{n * (len(points) > 1) or ''}": value for n, value in enumerate(points, 1)}
        return DesiredRun(
            name=f"{row.loss} {what}",
            tags={name: text[:TAG_LIMIT] for name, text in texts.items() if text},
            params=params,
            dataset=self._images,
            start=now - int(row.seconds * 1000),
            status=STATUS[state],
            end=now,
            last=MetricPoint(drop_missing({"seconds": row.seconds, **values}), 0, now),
        )
