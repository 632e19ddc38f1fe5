"""A search of many trials: what grows with their number, counted and not timed (bench/overhead.py times it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import RDBStorage

from sweeper import storage as studies
from sweeper.core.records import TrialResult
from sweeper.study.loop import drive
from sweeper.study.search import enqueue_defaults
from tests.support.faking import SPACE, FakeExecutor, new_plan, new_search
from tests.support.sweeping import Recorder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_trial_reads_no_more_rows_when_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, seen = 0, list[int]()
    read = RDBStorage._get_trials

    def counting(*arguments: Any, **settings: Any) -> Any:
        nonlocal rows
        found = read(*arguments, **settings)
        rows += len(found)
        return found

    class Sampled(Recorder):
        def keep(self, result: TrialResult) -> None:
            seen.append(rows)

    monkeypatch.setattr(RDBStorage, "_get_trials", counting)
    study = studies.create_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s", new_plan())
    enqueue_defaults(study, SPACE, 240)
    assert drive(FakeExecutor(), new_search(study, 240, Sampled()), lambda: None)  # type: ignore[arg-type]
    each = np.diff(seen)
    assert each[-60:].mean() <= 1.5 * each[60:120].mean() + 5
