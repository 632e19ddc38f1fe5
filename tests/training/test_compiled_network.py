"""`--compile`: torch compiles the network of training steps before the first training, or that is refused in words."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from torch import nn

from sweeper.core.errors import ExecutorError, UsageError
from sweeper.core.own_code import find_code
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import split_of
from sweeper.data.store import open_store
from sweeper.executors.inline import InlineBackend
from sweeper.executors.watchdog import Watchdog
from sweeper.training import compiled_network
from sweeper.training.compiled_network import compile_first
from sweeper.training.graph_steps import change_apart, steps_kind
from sweeper.training.initial_networks import Starts
from sweeper.training.job import WorkerContext, worker_context
from sweeper.training.training_steps import TrainingSteps
from tests.cli.test_run import SHORT, start, sweeper, wait_for
from tests.support.own_modules import own_module
from tests.training.test_own_code import NETS
from tests.training.test_training import SMALL, spec

CPU = torch.device("cpu")


@pytest.fixture
def compiled() -> Iterator[list[nn.Module]]:
    """The networks that were told to be compiled; they are not, as that takes long."""
    told = list[nn.Module]()

    def note(module: nn.Module, *, dynamic: bool) -> nn.Module:
        assert not dynamic
        told.append(module)
        return module

    with patch.object(torch, "compile", note):
        yield told


@pytest.fixture
def context(tiny: Dataset, tmp_path: Path) -> WorkerContext:
    recipe = SMALL.model_copy(update={"compiled": True})
    return worker_context(Conditions(dataset=tiny, recipe=recipe, seed=0), open_store(tiny.store), "cpu", tmp_path)


def plain(context: WorkerContext) -> WorkerContext:
    """The same without compiling."""
    recipe = context.conditions.recipe.model_copy(update={"compiled": False})
    return replace(context, conditions=context.conditions.model_copy(update={"recipe": recipe}))


def steps_of(context: WorkerContext, seed: int = 0) -> TrainingSteps:
    conditions, given = context.conditions, spec(steps=4, seed=seed)
    images = split_of(conditions, seed, None).train
    kind = steps_kind(conditions.recipe.engine, CPU)
    return kind(given, conditions, context.store, images, device=CPU, starts=Starts(), resident=None)


def test_the_network_that_takes_steps_is_compiled_and_its_average_is_not(
    context: WorkerContext, compiled: list[nn.Module]
) -> None:
    steps = steps_of(context)
    assert compiled == [steps.model]
    steps_of(plain(context))
    compile_first(plain(context))
    assert compiled == [steps.model]


def failing(error: Exception) -> Callable[..., Callable[..., None]]:
    """A compiler, what it makes raises this."""

    def fail(*_: object) -> None:
        raise error

    return lambda *_, **__: fail


def test_what_cannot_be_compiled_is_refused_before_anything_is_trained(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", failing(RuntimeError("no C++\ncompiler")))
    with closing(InlineBackend("cpu")) as backend, pytest.raises(UsageError) as told:
        backend.open(context.conditions, tmp_path)
    assert "--compile needs a network that torch can compile here" in str(told.value)
    assert "RuntimeError: no C++ compiler" in str(told.value) and "leave it out" in str(told.value)


def test_want_of_memory_is_no_fault_of_the_compiler(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", failing(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        compile_first(context)


def advising(text: str) -> Callable[..., Callable[..., object]]:
    """A compiler that has an opinion on what it is given."""

    def advise(module: nn.Module, **_: object) -> Callable[..., object]:
        def call(images: torch.Tensor) -> object:
            warnings.warn(text, UserWarning, stacklevel=1)
            return module(images)

        return call

    return advise


def test_advice_of_the_compiler_on_another_precision_is_no_fault(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch gives it on newer GPUs; a test takes a warning for an error, and a person would take it for one."""
    text = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled. Consider setting …"
    monkeypatch.setattr(torch, "compile", advising(text))
    compile_first(context)
    monkeypatch.setattr(torch, "compile", advising("another warning"))
    with pytest.raises(UsageError, match="another warning"):
        compile_first(context)


def test_a_refusal_of_recorded_steps_is_told_as_what_it_is(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = UsageError("--engine graph needs steps that can be recorded")
    monkeypatch.setattr(torch, "compile", failing(refusal))
    with pytest.raises(UsageError) as told:
        compile_first(context)
    assert told.value is refusal


def test_the_steps_that_were_tried_are_let_go(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also recorded ones, which refer to themselves."""
    gone = list[bool]()

    class Steps:
        def __init__(self) -> None:
            self.itself = self
            weakref.finalize(self, gone.append, True)

        def run(self, first: int, target: int) -> None:
            pass

    monkeypatch.setattr(compiled_network, "probe_steps", lambda *_, **__: Steps())
    compile_first(context)
    assert gone == [True, True]


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
    function: str, context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch compiles eight of them, and then goes on with the network as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with own_module("changing_nets", CHANGING, tmp_path, monkeypatch) as name, pytest.raises(UsageError) as told:
        compile_first(with_model(context, f"{name}:{function}"))
    assert "--compile needs a network that torch can compile here, once for all steps" in str(told.value)
    assert "recompile" in str(told.value)


def with_model(context: WorkerContext, function: str) -> WorkerContext:
    """The same with a network of the user's."""
    code = find_code(function, "--model")
    changes = {"model": code, "arch": code.name, "encoder": "", "encoder_depth": 5}
    recipe = context.conditions.recipe.model_copy(update=changes)
    return replace(context, conditions=context.conditions.model_copy(update={"recipe": recipe}))


@pytest.mark.slow
def test_a_later_training_that_would_not_be_compiled_fails(
    context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compile_first(context)
    with patch("torch._dynamo.config.recompile_limit", 1), pytest.raises(Exception, match="recompile_limit"):
        other = context.conditions.recipe.model_copy(update={"size": 64, "batch_size": 3})
        changed = context.conditions.model_copy(update={"recipe": other})
        steps_of(replace(context, conditions=changed)).run(0, 2)


def test_an_actor_in_place_of_another_has_time_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper.executors import ray_actors

    here, now = SimpleNamespace(get_node_id=lambda: "here"), [0.0]
    monkeypatch.setattr(ray_actors, "ray", SimpleNamespace(get_runtime_context=lambda: here))
    monkeypatch.setattr(ray_actors, "running_seconds", lambda: now[0])
    actor = ray_actors.Actor(handle=None, pending=object())
    executor = ray_actors.RayExecutor([actor], lambda: actor, pytest.fail, Watchdog(), SMALL, start_seconds=2100.0)
    for now[0] in (0.0, 2099.0):
        assert executor.free() == 0
    now[0] = 2101.0
    with pytest.raises(ExecutorError, match="none came back within 2100 s"):
        executor.free()


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A small network of the user's, which takes seconds to compile; nothing was compiled before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with own_module("own_nets", NETS, tmp_path, monkeypatch) as name:
        yield f"{name}:build"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_steps_are_the_plain_ones_but_for_rounding_and_one_compilation_serves_all(
    context: WorkerContext, net: str, tmp_path: Path
) -> None:
    context = with_model(context, net)
    compile_first(context)
    assert list((tmp_path / "inductor").rglob("*.so"))
    with patch("torch._dynamo.config.error_on_recompile", True):
        for seed in (0, 1):
            fast, slow = steps_of(context, seed), steps_of(plain(context), seed)
            # Gradients, as Adam makes much of the rounding of those that are nearly 0.
            found = []
            for steps in (fast, slow):
                steps.run(0, 1)
                found.append([p.grad.clone() for p in steps.model.parameters() if p.grad is not None])
            assert change_apart([torch.zeros_like(grad) for grad in found[0]], *found) < 1e-4
            fast.run(1, 4)
            assert list(fast.model.state_dict()) == list(slow.model.state_dict())


OPTIONS = [*SHORT, "--compile", "--study", "s", "--trials", "2", "--workers", "1"]


@pytest.mark.slow
def test_a_sweep_of_a_worker_compiles_first_and_says_so(net: str, tmp_path: Path) -> None:
    done = sweeper(tmp_path, "run", *OPTIONS, "--model", net)
    assert done.returncode == 0, done.stderr
    said = done.stderr.index("compiling the network before the first training: a minute or more")
    assert done.stderr.index("[1/2]") > said
    assert "resource_tracker" not in done.stderr and "CUDA" not in done.stderr  # nothing of the libraries'
    assert set((tmp_path / "inductor").rglob("*.so"))
    shown = json.loads((tmp_path / "reports/s/recommendation.json").read_text())
    assert shown["recipe"]["compiled"] is True


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_resume_takes_what_was_compiled_from_the_disk_and_train_compiles_nothing(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweeper(tmp_path, "run", *OPTIONS, "--model", net).returncode == 0
    made = set((tmp_path / "inductor").rglob("*.so"))
    resumed = sweeper(tmp_path, "run", "--study", "s", "--resume", "--trials", "3", "--device", "cpu", "--workers", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert "compiling the network" in resumed.stderr  # the study keeps it
    assert set((tmp_path / "inductor").rglob("*.so")) == made  # from the disk
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "empty"))
    trained = sweeper(tmp_path, "train", "s", "--steps", "4", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr


@pytest.mark.slow
def test_ctrl_c_while_the_network_is_compiled_ends_everything(net: str, tmp_path: Path) -> None:
    process = start(tmp_path, "run", *OPTIONS, "--model", net)
    wait_for(tmp_path, "compiling the network before the first training", process)
    while not (tmp_path / "inductor").exists():  # the compiler is at work
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    said = (tmp_path / "err.txt").read_text()
    assert "stopped before anything was trained" in said
    assert "Traceback" not in said and "resource_tracker" not in said
    deadline = time.monotonic() + 30
    while _group_lives(process.pid):
        assert time.monotonic() < deadline, "a process of the sweep is still there"
        time.sleep(0.1)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_told_in_words(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    done = sweeper(tmp_path, "run", *OPTIONS, "--model", net)
    assert done.returncode == 2
    assert "--compile needs a network that torch can compile here" in done.stderr
    assert "no-compiler" in done.stderr and "Traceback" not in done.stderr
    assert "[1/2]" not in done.stderr
