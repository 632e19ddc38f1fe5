"""Jobs: a training that is cut anywhere gives what one gives that ran through, and what faults cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sweeper.core.errors import CheckpointError
from sweeper.core.events import JobResult, TrainingJob, WorkerLost
from sweeper.core.paths import get_checkpoint_path
from sweeper.core.records import Conditions, Dataset
from sweeper.training.checkpoint import load_checkpoint
from sweeper.training.engine import StudyTraining
from sweeper.training.job import WorkerTrainings
from sweeper.training.model import _build_once
from sweeper.training.training_context import TrainingContext, open_context
from tests.support.faulty import disk_is_full, launch_fails, no_memory
from tests.support.marks import rest_slow
from tests.support.small_training import SMALL, spec, timeless

CPU = torch.device("cpu")
FOUR = SMALL.model_copy(update={"steps": 8})


BOUNDARY = spec(steps=8, family="boundary_ce")
"""It wants maps of the labels, too."""


def context(dataset: Dataset, **changes: Any) -> TrainingContext:
    return open_context(Conditions(dataset=dataset, recipe=FOUR.model_copy(update=changes), seed=0), "cpu")


def timed_out(answer: JobResult | WorkerLost) -> str:
    """Return the result without its durations, as text."""
    assert isinstance(answer, JobResult)
    return timeless(answer.result)


@pytest.fixture(scope="module")
def whole(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what the training gives that runs through."""
    trainings = WorkerTrainings(context(tiny), tmp_path_factory.mktemp("whole"))
    return timed_out(trainings.run_job(TrainingJob(BOUNDARY, 8)))


@pytest.mark.parametrize("harm", rest_slow(["bit", "none", "gone", "pickle", "truncated"], 0, 4))
def test_a_job_goes_on_where_it_paused_or_from_its_start_if_its_file_is_spoilt(
    tiny: Dataset, tmp_path: Path, whole: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, path = context(tiny), get_checkpoint_path(tmp_path, BOUNDARY)
    first = WorkerTrainings(shop, tmp_path)
    first.run_job(TrainingJob(BOUNDARY, 1))
    first.save_last_training()
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif harm == "gone":
        path.unlink()
    elif harm == "pickle":
        torch.save({"checkpoint": Canary()}, path)
    elif harm == "bit":
        turned = bytearray(path.read_bytes())
        turned[len(turned) // 2] ^= 4
        path.write_bytes(turned)
    begun: list[int] = []
    own = StudyTraining.advance
    monkeypatch.setattr(StudyTraining, "advance", lambda self: begun.append(self.step) or own(self))  # type: ignore[func-returns-value]
    told = WorkerTrainings(shop, tmp_path).run_job(TrainingJob(BOUNDARY, 8))
    assert begun == ([2, 4, 6] if harm == "none" else [0, 2, 4, 6])
    assert isinstance(told, JobResult) and told.finished and timed_out(told) == whole
    assert not Canary.sung
    assert ("the training begins again" in told.note and str(path) in told.note) == (
        harm in {"truncated", "pickle", "bit"}
    )


def test_a_checkpoint_of_another_training_or_other_conditions_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    trainings, path = WorkerTrainings(context(tiny), tmp_path), get_checkpoint_path(tmp_path, BOUNDARY)
    trainings.run_job(TrainingJob(BOUNDARY, 1))
    trainings.save_last_training()
    own = context(tiny).conditions
    assert load_checkpoint(path, BOUNDARY, own, CPU)[0].step == 2
    decayed = context(tiny, weight_decay=0.5).conditions
    for asked, conditions in ((spec(steps=8), own), (BOUNDARY, decayed)):
        with pytest.raises(CheckpointError, match="another training"):
            load_checkpoint(path, asked, conditions, CPU)


@pytest.mark.slow
def test_of_a_hundred_single_bits_of_a_checkpoint_that_turn_none_is_taken_for_what_was_written(
    tiny: Dataset, tmp_path: Path
) -> None:
    """Bits of the archive's padding change nothing."""
    trainings, path = WorkerTrainings(context(tiny), tmp_path), get_checkpoint_path(tmp_path, BOUNDARY)
    trainings.run_job(TrainingJob(BOUNDARY, 1))
    trainings.save_last_training()
    given = (path, BOUNDARY, context(tiny).conditions, CPU)
    record, tensors = load_checkpoint(*given)
    whole, rng, found = path.read_bytes(), np.random.default_rng(0), 0
    for bit in rng.integers(8 * len(whole), size=100):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << int(bit % 8)
        path.write_bytes(turned)
        try:
            again = load_checkpoint(*given)
        except CheckpointError:
            found += 1
        else:
            assert again[0] == record
            torch.testing.assert_close(again[1], tensors, rtol=0, atol=0)
    assert found >= 90


class Canary:
    """Unpickling it would run code."""

    sung: ClassVar[list[int]] = []

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return Canary.sung.append, (1,)


@pytest.mark.parametrize("between", ["another process", "nothing", "another training", "a job done again"])
@pytest.mark.slow
def test_a_training_cut_at_each_rung_gives_what_one_gives_that_ran_through(
    tiny: Dataset, tmp_path: Path, whole: str, between: str
) -> None:
    """All that each rung reports, to the last digit."""
    asked, other = BOUNDARY, spec(steps=8, number=1, family="focal")
    shop, told = context(tiny), []
    trainings = WorkerTrainings(shop, tmp_path)
    for until in (1, 3, 5, 7):
        answer = trainings.run_job(TrainingJob(asked, until))
        assert isinstance(answer, JobResult)
        told.append(answer)
        if between == "another training":
            trainings.run_job(TrainingJob(other, until))
        elif between == "another process":
            trainings.save_last_training()
            trainings = WorkerTrainings(shop, tmp_path)
        elif between == "a job done again" and not answer.finished:
            trainings.save_last_training()
            for doing in (trainings, WorkerTrainings(shop, tmp_path)):
                again = doing.run_job(TrainingJob(asked, until))
                assert timed_out(again) == timed_out(answer)
    assert timed_out(told[-1]) == whole
    assert [len(answer.result.evaluations) for answer in told] == [1, 2, 3, 4]
    assert not get_checkpoint_path(tmp_path, asked).exists()


def test_the_time_that_a_training_waits_in_memory_is_not_its_own(tiny: Dataset) -> None:
    now = [0.0]
    training = StudyTraining(spec(steps=8), context(tiny), clock=lambda: now[0])
    training.advance()
    now[0] += 1000
    assert training.advance().seconds == training.make_result("pruned").seconds == 0


# --- Faults of the process ---


FAULTY_CALLS = {
    "building": "segmentation_models_pytorch.create_model",
    "moving": "sweeper.training.training_steps.WeightAverage",
    "restoring": "torch.load",
    "training": "sweeper.training.training_context.cut_crops",
    "evaluating": "sweeper.training.evaluation.Evaluator.count",
    "scoring": "sweeper.training.evaluation.Evaluator.measure_test_images",
}


CASES = [(where, no_memory) for where in FAULTY_CALLS] + [("training", launch_fails)]
CASES += [(where, launch_fails) for where in FAULTY_CALLS if where != "training"]


@pytest.mark.parametrize(("where", "fails"), rest_slow(CASES, 0, 7))
def test_a_fault_of_the_process_is_told_wherever_it_is_raised(
    where: str, fails: Any, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = context(tiny)
    asked = spec(purpose="confirm") if where == "scoring" else spec()
    if where == "restoring":
        left = WorkerTrainings(shop, tmp_path)
        assert isinstance(left.run_job(TrainingJob(asked, 1)), JobResult)
        left.save_last_training()
    _build_once.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(FAULTY_CALLS[where], fails)
        trainings = WorkerTrainings(shop, tmp_path)
        assert isinstance(trainings.run_job(TrainingJob(asked, asked.steps)), WorkerLost)
        assert (trainings.broken is None) == (fails is no_memory)
    assert get_checkpoint_path(tmp_path, asked).exists() == (where == "restoring")  # the file is sound
    again = WorkerTrainings(shop, tmp_path).run_job(TrainingJob(asked, asked.steps))
    assert isinstance(again, JobResult) and again.result.state == "complete"


@pytest.mark.parametrize("fails", rest_slow([disk_is_full, launch_fails, no_memory], 0, 2))
def test_a_result_that_is_there_outlives_the_writing_of_files_beside_it(
    fails: Any, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.save", fails)
    monkeypatch.setattr("sweeper.training.network_in_training.save_weights", fails)
    trainings, last = WorkerTrainings(context(tiny), tmp_path), spec(purpose="confirm", keep_predictions=3)
    assert isinstance(trainings.run_job(TrainingJob(spec(), 1)), JobResult)
    done = trainings.run_job(TrainingJob(last, last.steps))  # the first one cannot be kept
    assert isinstance(done, JobResult) and done.result.state == "complete"
