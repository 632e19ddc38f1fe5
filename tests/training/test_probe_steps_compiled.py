"""`--compile`: torch compiles the network of training steps before the first training, or sweeper refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

from sweeper.core.errors import UsageError
from sweeper.core.own_code import find_code
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import get_split
from sweeper.executors.inline import InlineBackend
from sweeper.training.graph_steps import choose_steps_class, measure_change_distance
from sweeper.training.probe_steps import compile_for_study
from sweeper.training.training_context import TrainingContext, open_context
from sweeper.training.training_steps import TrainingSteps
from tests.cli.test_run import SHORT, sweeper
from tests.support.own_modules import own_module
from tests.support.small_training import SMALL, spec
from tests.training.test_own_model import NETS

CPU = torch.device("cpu")


@pytest.fixture
def compiled() -> Iterator[list[nn.Module]]:
    """Yield the networks that were to be compiled; they are not, as that takes long."""
    networks = list[nn.Module]()

    def note(module: nn.Module, *, dynamic: bool) -> nn.Module:
        assert not dynamic
        networks.append(module)
        return module

    with patch.object(torch, "compile", note):
        yield networks


@pytest.fixture
def context(tiny: Dataset) -> TrainingContext:
    recipe = SMALL.model_copy(update={"compiled": True})
    return open_context(Conditions(dataset=tiny, recipe=recipe, seed=0), "cpu")


def disable_compiling(context: TrainingContext) -> TrainingContext:
    """Return the context without compiling."""
    recipe = context.conditions.recipe.model_copy(update={"compiled": False})
    return replace(context, conditions=context.conditions.model_copy(update={"recipe": recipe}))


def make_steps(context: TrainingContext, seed: int = 0) -> TrainingSteps:
    conditions, trial = context.conditions, spec(steps=4, seed=seed)
    images = get_split(conditions, seed, None).train
    return choose_steps_class(conditions.recipe.engine, context.device)(trial, context, images)


def test_the_trained_network_is_compiled_and_its_average_is_not(
    context: TrainingContext, compiled: list[nn.Module]
) -> None:
    steps = make_steps(context)
    assert compiled == [steps.model]
    make_steps(disable_compiling(context))
    assert compiled == [steps.model]


def make_failing_compiler(error: Exception) -> Callable[..., Callable[..., None]]:
    """Return a compiler whose networks raise `error`."""

    def fail(*_: object) -> None:
        raise error

    return lambda *_, **__: fail


def test_a_network_that_cannot_be_compiled_is_refused_before_training(
    context: TrainingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", make_failing_compiler(RuntimeError("no C++\ncompiler")))
    with closing(InlineBackend("cpu")) as backend, pytest.raises(UsageError) as caught:
        backend.open(context.conditions, tmp_path)
    assert "--compile needs a network that torch can compile here" in str(caught.value)
    assert "RuntimeError: no C++ compiler" in str(caught.value) and "leave it out" in str(caught.value)


def test_too_little_memory_is_not_reported_as_a_fault_of_the_compiler(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", make_failing_compiler(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        compile_for_study(context)


CHANGING = """
import itertools
import torch
from torch import nn

COUNT = itertools.count(1)

class Net(nn.Module):
    def __init__(self, channels, classes, grows):
        super().__init__()
        self.net, self.factor, self.grows = nn.Conv2d(channels, classes, 1), 1.0, grows
        if not grows:
            self.factor = float(next(COUNT))

    def forward(self, images):
        if self.grows:
            self.factor += 1.0
        return self.net(images) * self.factor

def another_each_time(in_channels, classes): return Net(in_channels, classes, False)
def another_each_step(in_channels, classes): return Net(in_channels, classes, True)
"""


@pytest.mark.parametrize("function", ["another_each_time", "another_each_step"])
def test_a_network_that_needs_more_than_one_compilation_is_refused(
    function: str, context: TrainingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch compiles eight of them, and then continues with the network as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with own_module("changing_nets", CHANGING, tmp_path, monkeypatch) as name, pytest.raises(UsageError) as caught:
        compile_for_study(with_model(context, f"{name}:{function}"))
    assert "--compile needs a network that torch can compile here, once for all steps" in str(caught.value)
    assert "recompile" in str(caught.value)


def with_model(context: TrainingContext, function: str) -> TrainingContext:
    """Return the context with the user's network."""
    code = find_code(function, "--model")
    changes = {"model": code, "arch": code.name, "encoder": "", "encoder_depth": 5}
    recipe = context.conditions.recipe.model_copy(update=changes)
    return replace(context, conditions=context.conditions.model_copy(update={"recipe": recipe}))


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the user's small network, which takes seconds to compile; nothing was compiled before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with own_module("own_nets", NETS, tmp_path, monkeypatch) as name:
        yield f"{name}:build"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_steps_equal_plain_ones_and_one_compilation_serves_all_trainings(
    context: TrainingContext, net: str, tmp_path: Path
) -> None:
    context = with_model(context, net)
    compile_for_study(context)
    assert list((tmp_path / "inductor").rglob("*.so"))
    with patch("torch._dynamo.config.error_on_recompile", True):
        for seed in (0, 1):
            fast, slow = make_steps(context, seed), make_steps(disable_compiling(context), seed)
            # Gradients, as Adam makes much of the rounding of those that are nearly 0.
            gradients = []
            for steps in (fast, slow):
                steps.take_steps(0, 1)
                gradients.append([p.grad.clone() for p in steps.model.parameters() if p.grad is not None])
            assert measure_change_distance([torch.zeros_like(grad) for grad in gradients[0]], *gradients) < 1e-4
            fast.take_steps(1, 4)
            assert list(fast.model.state_dict()) == list(slow.model.state_dict())


@pytest.mark.slow
def test_a_sweep_in_a_worker_compiles_first_and_logs_it(net: str, tmp_path: Path) -> None:
    options = [*SHORT, "--compile", "--study", "s", "--trials", "2", "--workers", "1", "--model", net]
    done = sweeper(tmp_path, "run", *options)
    assert done.returncode == 0, done.stderr
    notice = done.stderr.index("compiling the network before the first training: a minute or more")
    assert done.stderr.index("[1/2]") > notice
    assert set((tmp_path / "inductor").rglob("*.so"))
    recommendation = json.loads((tmp_path / "reports/s/recommendation.json").read_text())
    assert recommendation["recipe"]["compiled"] is True
