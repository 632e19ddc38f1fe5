"""Whole trainings on a GPU: recorded steps, pixels in its memory, low precision.

Everything here has a similar test on a processor, with stand-ins for what a GPU does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from sweeper.core.records import Conditions, Dataset
from sweeper.training.engine import StudyTraining
from sweeper.training.hardware import settle_numerics
from sweeper.training.training_context import TrainingContext, open_context
from tests.support.small_training import SMALL, spec, train_to_end

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
TWELVE = SMALL.model_copy(update={"steps": 12, "evaluations": 2})


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Choose algorithms whose sums have one order."""
    settle_numerics(True)
    yield
    settle_numerics(False)


def open_gpu_context(dataset: Dataset, **changes: Any) -> TrainingContext:
    recipe = TWELVE.model_copy(update=changes)
    return open_context(Conditions(dataset=dataset, recipe=recipe, seed=0), DEVICE)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("engine", ["eager", "graph"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trainings_in_one_process_give_the_results_of_separate_ones(
    tiny: Dataset, tmp_path: Path, engine: str, precision: str
) -> None:
    """To the last bit: a recording changes nothing of later trainings."""
    families = ("cross_entropy", "dice", "focal", "boundary", "dice_ce", "tversky")
    specs = [spec(number=n, seed=n % 3, family=family, steps=12) for n, family in enumerate(families)]
    shared, results = open_gpu_context(tiny, engine=engine, precision=precision), []
    for one in specs:
        fresh = open_gpu_context(tiny, engine=engine, precision=precision)
        for context in (fresh, shared):
            training = StudyTraining(one, context, clock=lambda: 0.0)
            results.append(train_to_end(training).model_dump_json())
    assert results[::2] == results[1::2]


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_pixels_in_the_memory_of_the_gpu_are_those_of_the_processor(tiny: Dataset, engine: str) -> None:
    resident, results = open_gpu_context(tiny, engine=engine), []
    for context in (replace(resident, resident=None), resident):
        training = StudyTraining(spec(steps=12), context, clock=lambda: 0.0)
        results.append(train_to_end(training).model_dump_json())
    assert results[0] == results[1]


def test_bfloat16_differs_less_than_seeds_do(tiny: Dataset) -> None:
    """Paired by seed: the mean difference is no larger than the spread of float32 between seeds."""
    values = dict[str, list[float]]()
    for precision in ("float32", "bfloat16"):
        changes = {"precision": precision, "steps": 120, "batch_size": 8}
        context = replace(open_gpu_context(tiny, **changes), resident=None)
        for seed in range(6):
            training = StudyTraining(spec(steps=120, seed=seed, lr=2e-3), context)
            value = train_to_end(training).value
            assert value is not None
            values.setdefault(precision, []).append(value)
    difference = fmean(a - b for a, b in zip(values["bfloat16"], values["float32"], strict=True))
    assert abs(difference) <= stdev(values["float32"])
