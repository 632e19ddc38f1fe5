"""Studies of many trials: what grows with their number, counted and not timed (bench/overhead.py times it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import RDBStorage

from sweeper import storage as studies
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.study.loop import drive
from sweeper.study.search import Search, enqueue_defaults
from tests.support import builders
from tests.support.faking import SPACE, FakeExecutor, fake_result, new_plan
from tests.support.sweeping import Recorder

COUNTS = builders.counts_from_iou(np.linspace(0.2, 0.8, 20))


def with_counts(spec: TrialSpec) -> TrialResult:
    return fake_result(spec).model_copy(update={"val": COUNTS})


class Sampled(Recorder):
    """Keeps a number each time a trial is stored."""

    def __init__(self, number: Any) -> None:
        super().__init__()
        self._number = number
        self.seen: list[float] = []

    def keep(self, result: TrialResult) -> None:
        self.seen.append(self._number())


def search(folder: Path, trials: int, display: Recorder) -> None:
    study = studies.create_study(studies.open_storage(f"sqlite:///{folder}/sweeper.db"), "s", plan := new_plan())
    enqueue_defaults(study, SPACE, trials)
    work = Search(
        study,
        SPACE,
        plan.conditions,
        imbalance=60.0,
        trials=trials,
        recorder=display,
        checkpoints=folder / "checkpoints",
    )
    assert drive(FakeExecutor(with_counts), work, lambda: None)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_trial_reads_no_more_rows_when_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 0
    read = RDBStorage._get_trials

    def counting(*arguments: Any, **settings: Any) -> Any:
        nonlocal rows
        found = read(*arguments, **settings)
        rows += len(found)
        return found

    monkeypatch.setattr(RDBStorage, "_get_trials", counting)
    display = Sampled(lambda: rows)
    search(tmp_path, 240, display)
    each = np.diff(display.seen)
    assert each[-60:].mean() <= 1.5 * each[60:120].mean() + 5
