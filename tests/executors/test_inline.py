"""Trainings in this process."""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path

import pytest

from sweeper.core.errors import ExecutorError
from sweeper.core.events import TrainingJob, WorkerLost
from sweeper.core.records import Conditions, Dataset
from sweeper.executors.inline import InlineBackend
from tests.support.faulty import raise_launch_failure, raise_out_of_memory
from tests.support.small_training import SMALL, spec


def open_inline(dataset: Dataset, checkpoints: Path) -> InlineBackend:
    return InlineBackend("cpu").open(Conditions(dataset=dataset, recipe=SMALL, seed=0), checkpoints)


def test_a_process_that_lost_its_device_begins_no_further_training(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = open_inline(tiny, tmp_path)
    monkeypatch.setattr("sweeper.training.engine.StudyTraining.advance", raise_launch_failure)
    executor.submit(TrainingJob(spec(), 1))
    (event,) = executor.poll(1)
    assert isinstance(event, WorkerLost)
    with pytest.raises(ExecutorError, match=r"can use its device no more: .*launch failure"):
        executor.free()


def test_lack_of_memory_for_the_first_network_is_an_executor_error(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmentation_models_pytorch.create_model", raise_out_of_memory)
    with pytest.raises(ExecutorError, match="could not be built in this process"):
        open_inline(tiny, tmp_path)


def test_a_backend_closes_what_it_opened(tiny: Dataset, tmp_path: Path) -> None:
    gc.unfreeze()
    with closing(InlineBackend("cpu")) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        executor.submit(TrainingJob(spec(), 1))
        assert executor.free() == 0 and gc.get_freeze_count() > 0
    assert executor.free() == 1 and gc.get_freeze_count() == 0
