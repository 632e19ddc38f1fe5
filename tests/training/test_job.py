"""Jobs: an interrupted training gives the result of an uninterrupted one, and what faults cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sweeper.core.errors import CheckpointError
from sweeper.core.events import JobResult, TrainingJob, WorkerLost
from sweeper.core.recipe import FinalNetwork
from sweeper.core.records import Conditions, Dataset
from sweeper.core.training_files import get_checkpoint_path, get_weights_dir_of, get_weights_path
from sweeper.training.engine import StudyTraining
from sweeper.training.job import WorkerTrainings
from sweeper.training.model import _build_once
from sweeper.training.network_in_training import load_checkpoint
from sweeper.training.training_context import TrainingContext, open_context
from sweeper.training.weights_file import read_record
from tests.support.faulty import fail_with_full_disk, raise_launch_failure, raise_out_of_memory
from tests.support.marks import rest_slow
from tests.support.small_training import SMALL, format_without_times, spec

CPU = torch.device("cpu")
FOUR = SMALL.model_copy(update={"steps": 8})


BOUNDARY = spec(steps=8, family="boundary_ce")
"""Its loss needs maps of the labels, too."""


def make_context(dataset: Dataset, **changes: Any) -> TrainingContext:
    return open_context(Conditions(dataset=dataset, recipe=FOUR.model_copy(update=changes), seed=0), "cpu")


def remove_durations(answer: JobResult | WorkerLost) -> str:
    """Return the result without its durations, as text."""
    assert isinstance(answer, JobResult)
    return format_without_times(answer.result)


@pytest.fixture(scope="module")
def uninterrupted(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the result of an uninterrupted training."""
    trainings = WorkerTrainings(make_context(tiny), tmp_path_factory.mktemp("uninterrupted"))
    return remove_durations(trainings.run_job(TrainingJob(BOUNDARY, 8)))


@pytest.mark.parametrize("harm", rest_slow(["bit", "none", "missing", "pickle", "truncated"], 0, 4))
def test_a_job_continues_where_it_paused_or_restarts_if_its_file_is_damaged(
    tiny: Dataset, tmp_path: Path, uninterrupted: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, path = make_context(tiny), get_checkpoint_path(tmp_path, BOUNDARY)
    first = WorkerTrainings(study, tmp_path)
    first.run_job(TrainingJob(BOUNDARY, 1))
    first.save_last_training()
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif harm == "missing":
        path.unlink()
    elif harm == "pickle":
        torch.save({"checkpoint": Canary()}, path)
    elif harm == "bit":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    steps: list[int] = []
    advance = StudyTraining.advance
    monkeypatch.setattr(StudyTraining, "advance", lambda self: steps.append(self.step) or advance(self))  # type: ignore[func-returns-value]
    answer = WorkerTrainings(study, tmp_path).run_job(TrainingJob(BOUNDARY, 8))
    assert steps == ([2, 4, 6] if harm == "none" else [0, 2, 4, 6])
    assert isinstance(answer, JobResult) and answer.finished and remove_durations(answer) == uninterrupted
    assert not Canary.sung
    assert ("the training begins again" in answer.note and str(path) in answer.note) == (
        harm in {"truncated", "pickle", "bit"}
    )


def test_a_checkpoint_of_another_training_or_other_conditions_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    trainings, path = WorkerTrainings(make_context(tiny), tmp_path), get_checkpoint_path(tmp_path, BOUNDARY)
    trainings.run_job(TrainingJob(BOUNDARY, 1))
    trainings.save_last_training()
    conditions = make_context(tiny).conditions
    assert load_checkpoint(path, BOUNDARY, conditions, CPU)[0].step == 2
    decayed = make_context(tiny, weight_decay=0.5).conditions
    for trial, changed in ((spec(steps=8), conditions), (BOUNDARY, decayed)):
        with pytest.raises(CheckpointError, match="another training"):
            load_checkpoint(path, trial, changed, CPU)


@pytest.mark.slow
def test_no_single_changed_bit_of_a_checkpoint_changes_what_is_loaded(tiny: Dataset, tmp_path: Path) -> None:
    """Bits of the archive's padding change nothing."""
    trainings, path = WorkerTrainings(make_context(tiny), tmp_path), get_checkpoint_path(tmp_path, BOUNDARY)
    trainings.run_job(TrainingJob(BOUNDARY, 1))
    trainings.save_last_training()
    arguments = (path, BOUNDARY, make_context(tiny).conditions, CPU)
    record, tensors = load_checkpoint(*arguments)
    original, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for bit in rng.integers(8 * len(original), size=100):
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << int(bit % 8)
        path.write_bytes(changed)
        try:
            loaded = load_checkpoint(*arguments)
        except CheckpointError:
            refused += 1
        else:
            assert loaded[0] == record
            torch.testing.assert_close(loaded[1], tensors, rtol=0, atol=0)
    assert refused >= 90


class Canary:
    """Unpickling it would run code."""

    sung: ClassVar[list[int]] = []

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return Canary.sung.append, (1,)


@pytest.mark.parametrize("between", ["another process", "nothing", "another training", "a job done again"])
@pytest.mark.slow
def test_a_training_interrupted_at_each_rung_gives_the_uninterrupted_result(
    tiny: Dataset, tmp_path: Path, uninterrupted: str, between: str
) -> None:
    """All that each rung reports, to the last digit."""
    trial, other = BOUNDARY, spec(steps=8, number=1, family="focal")
    study, answers = make_context(tiny), []
    trainings = WorkerTrainings(study, tmp_path)
    for until in (1, 3, 5, 7):
        answer = trainings.run_job(TrainingJob(trial, until))
        assert isinstance(answer, JobResult)
        answers.append(answer)
        if between == "another training":
            trainings.run_job(TrainingJob(other, until))
        elif between == "another process":
            trainings.save_last_training()
            trainings = WorkerTrainings(study, tmp_path)
        elif between == "a job done again" and not answer.finished:
            trainings.save_last_training()
            for process in (trainings, WorkerTrainings(study, tmp_path)):
                again = process.run_job(TrainingJob(trial, until))
                assert remove_durations(again) == remove_durations(answer)
    assert remove_durations(answers[-1]) == uninterrupted
    assert [len(answer.result.evaluations) for answer in answers] == [1, 2, 3, 4]
    assert not get_checkpoint_path(tmp_path, trial).exists()


def test_the_time_that_a_training_waits_in_memory_is_not_counted(tiny: Dataset) -> None:
    now = [0.0]
    training = StudyTraining(spec(steps=8), make_context(tiny), clock=lambda: now[0])
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


CASES = [(place, raise_out_of_memory) for place in FAULTY_CALLS] + [("training", raise_launch_failure)]
CASES += [(place, raise_launch_failure) for place in FAULTY_CALLS if place != "training"]


@pytest.mark.parametrize(("place", "fault"), rest_slow(CASES, 0, 7))
def test_a_fault_of_the_process_is_reported_wherever_it_is_raised(
    place: str, fault: Any, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_context(tiny)
    trial = spec(purpose="confirm") if place == "scoring" else spec()
    if place == "restoring":
        interrupted = WorkerTrainings(study, tmp_path)
        assert isinstance(interrupted.run_job(TrainingJob(trial, 1)), JobResult)
        interrupted.save_last_training()
    _build_once.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(FAULTY_CALLS[place], fault)
        trainings = WorkerTrainings(study, tmp_path)
        assert isinstance(trainings.run_job(TrainingJob(trial, trial.steps)), WorkerLost)
        assert (trainings.broken is None) == (fault is raise_out_of_memory)
    assert get_checkpoint_path(tmp_path, trial).exists() == (place == "restoring")  # the file is sound
    again = WorkerTrainings(study, tmp_path).run_job(TrainingJob(trial, trial.steps))
    assert isinstance(again, JobResult) and again.result.state == "complete"


@pytest.mark.parametrize("fault", rest_slow([fail_with_full_disk, raise_launch_failure, raise_out_of_memory], 0, 2))
def test_a_result_survives_a_failure_to_write_files(
    fault: Any, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.save", fault)
    monkeypatch.setattr("sweeper.training.network_in_training.save_weights", fault)
    trainings, last = WorkerTrainings(make_context(tiny), tmp_path), spec(purpose="confirm", keep_predictions=3)
    assert isinstance(trainings.run_job(TrainingJob(spec(), 1)), JobResult)
    done = trainings.run_job(TrainingJob(last, last.steps))  # the first one cannot be kept
    assert isinstance(done, JobResult) and done.result.state == "complete"


def test_a_final_training_has_its_own_network_which_is_kept_and_no_other_training_has_it(
    tiny: Dataset, tmp_path: Path
) -> None:
    whole = FinalNetwork(encoder="resnet18", encoder_depth=5, encoder_weights="none", size=32)
    trainings = WorkerTrainings(make_context(tiny, final=whole), checkpoints := tmp_path / "checkpoints" / "s")
    final = spec(purpose="final", steps=8, keep_predictions=1)
    confirmed = spec(purpose="confirm", steps=8, keep_predictions=1)
    first, begun = TrainingJob(final, 1), trainings.run_job(TrainingJob(confirmed, 8))
    trainings.run_job(first)
    trainings.save_last_training()
    answer = WorkerTrainings(make_context(tiny, final=whole), checkpoints).run_job(TrainingJob(final, 8))
    straight = WorkerTrainings(make_context(tiny, final=whole), tmp_path / "others" / "s")
    assert remove_durations(answer) == remove_durations(straight.run_job(TrainingJob(final, 8)))
    assert isinstance(answer, JobResult) and isinstance(begun, JobResult) and answer.result.test is not None
    depths = {}
    for one in (final, confirmed):
        record = read_record(get_weights_path(get_weights_dir_of(checkpoints), one))
        depths[one.purpose] = (record.encoder_depth, record.decoder_channels)
    assert depths == {"final": (5, (256, 128, 64, 32, 16)), "confirm": (FOUR.encoder_depth, FOUR.decoder_channels)}
    alone = WorkerTrainings(make_context(tiny), tmp_path / "alone" / "s").run_job(TrainingJob(confirmed, 8))
    assert remove_durations(begun) == remove_durations(alone), "the search's network is as before"
