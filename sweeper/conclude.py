"""The end of the flow: what a study's storage allows to say, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper.data import divide, open_store
from sweeper.data.store import is_complete
from sweeper.errors import SweeperError
from sweeper.evidence.weigh import weigh
from sweeper.losses import FAMILIES, snippet
from sweeper.paths import ReportPaths
from sweeper.recommend import recommend
from sweeper.records import Recommendation, SweepRecord
from sweeper.report import write_report
from sweeper.study.confirm import confirmed, finalists
from sweeper.study.storage import load_sweep

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class Outcome(NamedTuple):
    """What a sweep leaves behind."""

    sweep: SweepRecord
    recommendation: Recommendation
    paths: ReportPaths


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
        return snippet(family, params, dataset.task, dataset.classes, frequencies, point=point)

    metric = sweep.conditions.recipe.metric
    return recommend(evidence, task=dataset.task, order=list(FAMILIES), snippet=paste, metric=metric)


def report_study(storage: RDBStorage, name: str, *, out: Path, ui_url: str | None = None) -> Outcome:
    """Write (again) the report of a study, from its storage and the decoded pictures alone.

    Raises:
        StudyError: if there is no such study.
    """
    sweep = load_sweep(storage, name)
    recommendation = conclude(sweep)
    folder = Path(sweep.conditions.dataset.store)
    store = open_store(folder) if is_complete(folder) else None
    pixels = (lambda i: (store.view(i), store.mask(i))) if store is not None else None
    settings = {} if ui_url is None else {"ui_url": ui_url}
    try:
        paths = write_report(sweep, recommendation, out, pixels=pixels, **settings)
    except OSError as error:
        raise SweeperError(
            f"the report could not be written: {error}; nothing is lost: sweeper report {name} --out FOLDER"
        ) from error
    return Outcome(sweep, recommendation, paths)
