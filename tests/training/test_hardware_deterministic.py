"""`--deterministic`: torch uses no algorithm whose sums vary in their order, and says where it has no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from sweeper.core.errors import UsageError
from sweeper.core.own_code import find_code
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import split_for
from sweeper.data.store import open_store
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.training.hardware import settle_numerics
from sweeper.training.initial_networks import Starts
from sweeper.training.training_steps import TrainingSteps
from tests.support.small_training import SMALL, spec

NETS = """
import torch

class Varies(torch.nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.layer = torch.nn.Conv2d(in_channels, classes, 1)

    def forward(self, images):
        first = torch.zeros(1, dtype=torch.int64)
        return self.layer(images.clone().put_(first, images.flatten()[:1]))

def varies(in_channels, classes):
    return Varies(in_channels, classes)
"""
"""torch has `put_` in no deterministic form, on a CPU either."""


@pytest.fixture
def varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "varying_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    yield "varying_nets:varies"
    sys.modules.pop("varying_nets", None)


def conditions_of(dataset: Dataset, network: str | None, deterministic: bool) -> Conditions:
    given = {} if network is None else {"model": find_code(network, "--model"), "arch": network}
    return Conditions(
        dataset=dataset, recipe=SMALL.model_copy(update={"deterministic": deterministic, **given}), seed=0
    )


@pytest.mark.parametrize(
    "backend", [InlineBackend("cpu"), ProcessBackend("cpu", 1, 1, print)], ids=["inline", "processes"]
)
def test_what_has_no_deterministic_form_is_refused_before_anything_is_trained(
    varies: str, tiny: Dataset, tmp_path: Path, backend: InlineBackend | ProcessBackend
) -> None:
    with (
        closing(backend),
        pytest.raises(UsageError, match=r"put_.* does not have a deterministic implementation"),
    ):
        backend.open(conditions_of(tiny, varies, True), tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_trains_where_any_order_of_sums_will_do(varies: str, tiny: Dataset, tmp_path: Path) -> None:
    with closing(InlineBackend("cpu")) as backend:
        backend.open(conditions_of(tiny, varies, False), tmp_path)


def test_an_inline_sweep_leaves_torch_as_it_comes(tiny: Dataset, tmp_path: Path) -> None:
    def state() -> tuple[bool, ...]:
        filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, not filled

    before = state()
    with closing(InlineBackend("cpu")) as backend:
        backend.open(conditions_of(tiny, None, True), tmp_path)
        assert state() == (True, True, True) and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert state() == before == (False, False, False)


@pytest.mark.parametrize(
    ("place", "deterministic", "tried"),
    [("cpu", False, False), ("cuda", False, True), ("cuda", True, False)],
)
def test_algorithms_are_tried_in_the_steps_of_a_gpu_and_nowhere_else(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, place: str, deterministic: bool, tried: bool
) -> None:
    """In forward and backward. Evaluations have images of many sizes, and each size would be tried."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    seen = list[bool]()

    def look(*_: object) -> None:
        seen.append(torch.backends.cudnn.benchmark)

    def look_both_ways(_: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        look()
        output.register_hook(look)

    train = split_for(tiny, study_seed=0, folds=None, seed=0).train
    given = (spec(), conditions_of(tiny, None, deterministic), open_store(tiny.store), train)
    steps = TrainingSteps(*given, device=torch.device("cpu"), starts=Starts())
    batch = steps._batch(0)
    steps.model.register_forward_hook(look_both_ways)
    steps._device = torch.device(place)  # of which nothing else is needed in a step
    settle_numerics(deterministic)
    steps._update(*batch)
    settle_numerics(False)
    assert seen == [tried, tried] and not torch.backends.cudnn.benchmark
