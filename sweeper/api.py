"""sweeper in Python: each function and method does what the command of its name does.

`sweeper/__init__.pyi`, which editors and type checkers read, is generated from this module (docs/site/stub.py).
"""

from __future__ import annotations

import base64
import inspect
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sweeper.core.base import Record
from sweeper.core.errors import UsageError
from sweeper.core.options import make_options
from sweeper.core.paths import CACHE, REPORTS, STORAGE, ReportPaths
from sweeper.core.records import SweepRecord
from sweeper.core.text import fill_words
from sweeper.evidence.document import AnswerDocument
from sweeper.judging.request import ScoreRequest
from sweeper.system.streams import make_streams_tolerant
from sweeper.workflow.settings import ConfirmOptions, PredictOptions, Settings, TrainOptions

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.cli.profile import ProfileDocument
    from sweeper.cli.progress import PlainDisplay
    from sweeper.cli.signals import StopRequest
    from sweeper.deployment.export import ExportDocument
    from sweeper.deployment.predict import PredictionsDocument
    from sweeper.deployment.train import TrainingDocument
    from sweeper.judging.judgement import Judgement
    from sweeper.storage.resilient_storage import RetryingStorage

Function = TypeVar("Function", bound=Callable[..., Any])
OPTIONS = re.compile(r"^ *options: .*\n", re.MULTILINE)
"""Line of a docstring that a list of the options replaces."""


def take_options(kind: type[Record], *names: str) -> Callable[[Function], Function]:
    """Give a function the fields of a record in place of `**options`, for signature and help: all, or those named."""

    def declare(function: Function) -> Function:
        own, fields = inspect.signature(function), kind.model_fields
        options = [name for name in names or fields if name not in own.parameters]
        fixed, defaults = [*own.parameters.values()][:-1], inspect.signature(kind).parameters
        keywords = [
            defaults[name].replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=fields[name].annotation)
            for name in options
        ]
        function.__signature__ = own.replace(parameters=[*fixed, *keywords])  # type: ignore[attr-defined]
        before, after = OPTIONS.split(inspect.cleandoc(str(function.__doc__)))
        lines = [fill_words(f"    {name}: {fields[name].description}", 112, rest=" " * 8) for name in options]
        function.__doc__ = "".join([before, *(f"{line}\n" for line in lines), after])
        return function

    return declare


@contextmanager
def _stop_by_signals(*, progress: bool) -> Iterator[tuple[PlainDisplay, StopRequest]]:
    """Yield a display on standard error, and the request to stop; in other threads only a time limit stops."""
    from sweeper.cli.progress import PlainDisplay
    from sweeper.cli.signals import StopRequest

    if sys.stderr is None:  # as under pythonw
        make_streams_tolerant()
    display = PlainDisplay(0 if progress else -1)
    # Signals reach only the main thread.
    here, request = threading.current_thread() is threading.main_thread(), StopRequest(display.warn)
    with request if here else nullcontext(request) as stop, redirect_stdout(sys.stderr):
        yield display, stop


@dataclass(frozen=True, repr=False)
class Study:
    """A study on this machine; a notebook displays the head of its report."""

    name: str
    """Name of the study, for `resume=True` and the commands."""
    answer: AnswerDocument
    """What to do, the loss to use with its parameters, gain and cost, every loss, and what to do next."""
    record: SweepRecord
    """All data of the study's storage."""
    out: Path = field(default=REPORTS)
    """Folder of the reports."""

    def __repr__(self) -> str:
        return f"Study {self.name}: {self.answer!r}"

    def _repr_markdown_(self) -> str:
        """Return the report down to what to do next, with its figure, and the code to paste."""
        text = (self.paths.markdown if self.paths.markdown.exists() else self.report()).read_text("utf-8")
        head = re.split(r"\n(?:<details|##+ )", text)[0].strip()
        code = re.findall(r"^```python\n.*?^```$", text, re.MULTILINE | re.DOTALL)[:1]
        return re.sub(r"(?<=\]\()figures/[^)]+\.svg", self._embed_figure, "\n\n".join([head, *code]))

    def _embed_figure(self, link: re.Match[str]) -> str:
        image = (self.paths.folder / link[0]).read_bytes()
        return f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}"

    @property
    def rerun(self) -> str:
        """The command that reproduces the numbers, with the resolved precision, device, seed and the like."""
        return self.record.rerun

    @property
    def paths(self) -> ReportPaths:
        """Files of the report."""
        return ReportPaths(self.out, self.name)

    @property
    def trials(self) -> pd.DataFrame:
        """All trainings, one row each, as in the report's `trials.csv`."""
        from sweeper.report.tables import make_trials_frame

        return make_trials_frame(self.record)

    def report(self) -> Path:
        """Write the report again, and return its path."""
        from sweeper.workflow.conclude import report_study

        return report_study(self._open_storage(), self.name, out=self.out).paths.markdown

    @take_options(
        TrainOptions, "on", "steps", "seed", "data", "images", "masks", "device", "precision", "overwrite",
        "register_as", "tracking_uri",
    )  # fmt: skip
    def train(self, *, progress: bool = True, **options: Any) -> TrainingDocument:
        """Train the recommended configuration to the end, and keep its weights, like `sweeper train`.

        Args:
            progress: whether to print the progress on standard error.
            options: see `TrainOptions`.

        Raises:
            sweeper.core.errors.UsageError: before any training.
            sweeper.core.errors.SweeperError: if nothing is recommended, or the training diverged.
            sweeper.core.errors.InterruptedSweepError: if it was stopped; the same call continues it.
        """
        from sweeper.deployment.train import train_recommended

        checked = make_options(TrainOptions, {"storage": self.record.storage, **options}, "the training")
        with _stop_by_signals(progress=progress) as (display, stop):
            return train_recommended(
                self._open_storage(), self.name, checked, messages=display, stop=stop, progress=lambda *_: None
            )

    @take_options(PredictOptions)
    def predict(self, *images: str | os.PathLike[str], **options: Any) -> PredictionsDocument:
        """Write masks and overlays of new images by the recommended network, like `sweeper predict`.

        Args:
            images: files, folders or patterns.
            options: see `PredictOptions`.

        Raises:
            sweeper.core.errors.SweeperError: if no network is kept on this machine; `train` makes one.
        """
        from sweeper.deployment.predict import load_from_study, predict_images

        checked = make_options(PredictOptions, options, "the prediction")
        with _stop_by_signals(progress=True) as (_, stop):
            network = load_from_study(self._open_storage(), self.name, CACHE)
            return predict_images(network, [*map(str, images)], checked, stop=stop, progress=lambda *_: None)

    def export(self, *, onnx: bool = False) -> ExportDocument:
        """Write the recommended loss and its network as files below the report's folder, like `sweeper export`.

        Args:
            onnx: whether to write the network as `model.onnx`, too.
        """
        from sweeper.deployment.export import export_study

        return export_study(self._open_storage(), self.name, out=self.out, cache=CACHE, onnx=onnx)

    def _open_storage(self) -> RetryingStorage:
        from sweeper.storage import open_storage

        return open_storage(self.record.storage, create=False)


@take_options(Settings)
def run(data: str | os.PathLike[str] | None = None, *, progress: bool = True, **options: Any) -> Study:
    """Search over losses, confirm the best on a locked test split, and recommend one, like `sweeper run`.

    Ctrl-C (in a notebook: interrupt the kernel) stops the sweep; `run(study=NAME, resume=True)` continues it.

    Args:
        data: folder of images and labels, or a synthetic scene; None = `synthetic:street`.
        progress: whether to print each result on standard error. Warnings are always printed.
        options: see `Settings`.

    Raises:
        sweeper.core.errors.UsageError: before any training, with every fault of options, data or space.
        sweeper.core.errors.NothingCompletedError: if no trial completed.
        sweeper.core.errors.InterruptedSweepError: if the sweep was stopped; finished results are kept.
        sweeper.core.errors.ExecutorError: if training is no longer possible; finished results are kept.
    """
    from sweeper.workflow.executor_choice import start_sweep

    settings = _check_settings({"data": data, **options})
    with _stop_by_signals(progress=progress) as (display, stop):
        outcome = start_sweep(settings, display, stop)
    return Study(outcome.sweep.study, outcome.document, outcome.sweep, settings.out)


@take_options(ConfirmOptions)
def confirm(
    source: str | os.PathLike[str] | None = None, *, progress: bool = True, **options: Any
) -> Study | AnswerDocument:
    """Compare losses in a training script of your own, or without one on data, like `sweeper confirm`.

    Args:
        source: name of the study whose finalists are compared, or with `losses` and without `command` the data.
        progress: whether to print each training on standard error.
        options: see `ConfirmOptions`.

    Returns:
        For data the study, for a script the answer.

    Raises:
        sweeper.core.errors.UsageError: before any training, with every fault of options or losses.
        sweeper.core.errors.InterruptedSweepError: if it was stopped; finished trainings are kept.
    """
    checked = make_options(ConfirmOptions, options, "the comparison")
    named = None if source is None else os.fspath(source)
    if (of_study := checked.list_study_options(named)) is not None:
        return run(progress=progress, **of_study)
    from sweeper.workflow.comparison import compare_losses

    with _stop_by_signals(progress=progress) as (display, stop):
        answer = compare_losses(named, checked, stop, log=display.warn)
    assert answer is not None  # as no dry run was requested
    return answer


def load_study(name: str, *, storage: str = STORAGE, out: str | os.PathLike[str] = REPORTS) -> Study:
    """Load a study that `run` or `sweeper run` made.

    Args:
        name: name of the study.
        storage: Optuna's storage, `sqlite:///FILE` or `postgresql://…`.
        out: folder of the reports.

    Raises:
        sweeper.core.errors.StudyError: if the study does not exist.
    """
    from sweeper.storage import load_sweep, open_storage
    from sweeper.workflow.conclude import draw_conclusion, make_document

    record = load_sweep(open_storage(storage, create=False), name)
    return Study(name, make_document(record, draw_conclusion(record)), record, Path(out))


@take_options(Settings, "images", "masks", "format", "class_map", "groups", "resize")
def profile(data: str | os.PathLike[str], *, progress: bool = True, **options: Any) -> ProfileDocument:
    """Measure imbalance and label problems of a data set, and list what won on data like it, like `sweeper profile`.

    Args:
        data: folder, zip or annotation file, or a synthetic scene.
        progress: whether to print the progress on standard error.
        options: see `Settings`.

    Raises:
        sweeper.core.errors.UsageError: with every fault of options or data.
    """
    from sweeper.cli.profile import make_profile
    from sweeper.workflow.prepare import resolve_dataset_request

    settings = _check_settings({"data": data, **options})
    with _stop_by_signals(progress=progress) as (display, _):
        return make_profile(resolve_dataset_request(settings, None, display), lambda *_: None)


@take_options(ScoreRequest)
def judge(scores: pd.DataFrame | str | os.PathLike[str], **options: Any) -> Judgement:
    """Judge which method is better, from scores of runs that were trained elsewhere, like `sweeper judge`.

    In a notebook the result is displayed as the headline, and its caveats.

    Args:
        scores: table with the columns `method` and `score` (or `tp`, `fp`, `fn`), and if known `seed`, `image`,
            `group`, `class`, `fold`, `step`; or the name of a CSV or parquet file, of a folder of nnU-Net's results, or
            `mlflow:EXPERIMENT`.
        options: see `ScoreRequest`.

    Raises:
        sweeper.core.errors.UsageError: with every fault of the scores.
    """
    from sweeper.judging.judgement import judge_scores
    from sweeper.judging.read import read_score_file
    from sweeper.judging.rows import ScoreRows

    request = make_options(ScoreRequest, options, "the judgement")
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
        UsageError: with every option that is unknown or has a wrong value.
    """
    options |= {
        name: str(options[name])
        for name in ("data", "space", "images", "masks")
        if isinstance(options.get(name), os.PathLike)
    }
    return make_options(Settings, options, "the sweep")
