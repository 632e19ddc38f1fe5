"""sweeper in Python: the same sweep as `sweeper run`, and the trainings of a study as a table."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.core.errors import UsageError
from sweeper.core.paths import STORAGE, TRACKING, ReportPaths
from sweeper.core.records import SweepRecord
from sweeper.evidence.document import AnswerDocument

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.judging.judgement import Judgement
    from sweeper.workflow.settings import Settings


@dataclass(frozen=True)
class Sweep:
    """Outcome of a sweep; a notebook displays the head of its report."""

    study: str
    """Name of the study, for `resume=True` and the commands."""
    answer: AnswerDocument
    """What to do, the loss to use with its parameters, gain and cost, every loss, and what to do next."""
    record: SweepRecord
    """All data of the study's storage."""
    paths: ReportPaths
    """Files of the report."""

    @property
    def rerun(self) -> str:
        """The command that reproduces the sweep's numbers, with its resolved precision, device, seed and the like."""
        return self.record.rerun

    @property
    def trials(self) -> pd.DataFrame:
        """All trainings, one row each."""
        from sweeper.report.tables import make_trials_frame

        return make_trials_frame(self.record)

    def _repr_markdown_(self) -> str:
        """Return the report up to its first figure, and the code to paste."""
        text = self.paths.markdown.read_text("utf-8")
        head = re.split(r"\n(?:!\[|<image|<details|### )", text)[0].strip()
        code = re.search(r"^```python\n.*?^```$", text, re.MULTILINE | re.DOTALL)
        return head if code is None or code[0] in head else f"{head}\n\n{code[0]}"


def run(data: str | os.PathLike[str] | None = None, *, progress: bool = True, **options: Any) -> Sweep:
    """Search over losses, confirm the best on a locked test split, and recommend one, like `sweeper run`.

    Ctrl-C (in a notebook: interrupt the kernel) stops the sweep; `run(study=NAME, resume=True)` continues it.

    Args:
        data: folder of images and labels, or a synthetic scene; None = `synthetic:street`.
        progress: whether to print each result on standard error. Warnings are always printed.
        options: options of `sweeper run`, with underscores: `trials=50, study="mine", seeds="3..8"`.

    Raises:
        sweeper.core.errors.UsageError: before any training, with every fault of options, data or space.
        sweeper.core.errors.NothingCompletedError: if no trial completed.
        sweeper.core.errors.InterruptedSweepError: if the sweep was stopped; finished results are kept.
        sweeper.core.errors.ExecutorError: if training is no longer possible; finished results are kept.
    """
    from sweeper.cli.progress import PlainDisplay
    from sweeper.cli.signals import StopRequest
    from sweeper.workflow.executor_choice import start_sweep

    settings = _check_settings({"data": data, **options})
    display = PlainDisplay(0 if progress else -1)
    # Signals reach only the main thread; in other threads only the time limit stops a sweep.
    here, request = threading.current_thread() is threading.main_thread(), StopRequest(display.warn)
    with request if here else nullcontext(request) as stop:
        outcome = start_sweep(settings, display, stop)
    return Sweep(outcome.sweep.study, outcome.document, outcome.sweep, outcome.paths)


def load_trials(study: str, storage: str = STORAGE) -> pd.DataFrame:
    """Return all trainings of a study as a table, one row each, as in its report's `trials.csv`.

    Args:
        study: name of the study.
        storage: Optuna's storage, `sqlite:///FILE` or `postgresql://…`.

    Raises:
        sweeper.core.errors.StudyError: if the study does not exist.
    """
    from sweeper.report.tables import make_trials_frame
    from sweeper.storage import load_sweep, open_storage

    return make_trials_frame(load_sweep(open_storage(storage), study))


def judge(
    scores: pd.DataFrame | str | os.PathLike[str],
    *,
    metric: str | None = None,
    present: str | None = None,
    margin: float | None = None,
    lower_is_better: bool | None = None,
    paired_seeds: bool = False,
    common: bool = False,
    level: float = 0.95,
    claim: str | None = None,
    at: str | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    tracking_uri: str = TRACKING,
    where: Mapping[str, str] | None = None,
) -> Judgement:
    """Judge runs that were trained elsewhere, like `sweeper judge`.

    Args:
        scores: a table with the columns `method` and `score` (or tp, fp, fn), and optionally `seed`, `image`, `group`,
            `class`, `fold`, `step`, one row per score; or a file, a folder or `mlflow:EXPERIMENT`, as in the command.
        metric: column of the scores, or `miou` or `dice` of tp, fp and fn.
        present: method that is used now: the others are compared with it, and it is kept if good enough.
        margin: difference that does not matter, in the score's unit; None = 0.01 if all scores are within 0 to 1.
        lower_is_better: whether lower scores are better, as for distances; None = higher is better, and refused if the
            metric's name is a loss, a distance or an error.
        paired_seeds: whether seeds are shared by the methods; else each method has its own trainings.
        common: whether to exclude images without a score in some run.
        level: confidence level of the intervals.
        claim: a claim such as `B > A by 0.005`; `Judgement.claim` has the outcome.
        at: step that is compared: `last`, a step, `best:METRIC` or `lowest:METRIC` of validation images; None = the
            last, which must be the same for all trainings.
        columns: other names for the columns `method`, `seed`, `image`, `group`, `class`, `fold` or `step`; in MLflow of
            the parameter or tag.
        ignore: columns that are of no influence on the scores.
        tracking_uri: MLflow store.
        where: parameter, tag or `status` of the runs in MLflow to use, with its value.

    Raises:
        sweeper.core.errors.UsageError: with every fault of the scores.
    """
    from sweeper.judging.judgement import judge_scores
    from sweeper.judging.read import read_score_file
    from sweeper.judging.rows import ScoreRequest, ScoreRows

    request = ScoreRequest(
        metric=metric,
        present=present,
        margin=margin,
        lower_is_better=lower_is_better,
        paired_seeds=paired_seeds,
        common=common,
        level=level,
        claim=claim,
        at=at,
        columns=columns or {},
        ignore=ignore,
        tracking_uri=tracking_uri,
        where=where or {},
    )
    if isinstance(scores, str | os.PathLike):
        rows = read_score_file(os.fspath(scores), request)
    elif hasattr(scores, "columns"):
        rows = ScoreRows(scores, "a table")
    else:
        raise UsageError(
            "scores must be a table with the columns method and score, or the name of a file, got "
            f"{type(scores).__name__}; give pandas.DataFrame(…) of it"
        )
    return judge_scores(rows, request)


def _check_settings(options: dict[str, Any]) -> Settings:
    """Check the options.

    Raises:
        UsageError: if one was replaced, or with every option that is unknown or has a wrong value.
    """
    from sweeper.cli.replaced import refuse_replaced
    from sweeper.workflow.settings import make_settings

    for name in options:
        refuse_replaced(f"--{name.replace('_', '-')}")
    options |= {
        name: str(options[name])
        for name in ("data", "space", "images", "masks")
        if isinstance(options.get(name), os.PathLike)
    }
    return make_settings(options)
