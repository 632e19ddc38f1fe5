"""The hardware of a machine is probed before training, and torch is set up for it."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.cli.doctor import describe_device, examine
from sweeper.core.errors import UsageError
from sweeper.core.own_code import find_code
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import divide_for_training
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.training import hardware
from sweeper.training.hardware import choose_gpu, probe_device, settle_numerics
from sweeper.training.training_context import open_context
from sweeper.training.training_steps import TrainingSteps
from tests.support.own_modules import own_module
from tests.support.small_training import SMALL, spec


class Gpus:
    """Simulated GPUs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capabilities, self.tried = [(9, 0)], list[str]()
        self.cannot: dict[str, Exception] = {}
        """By device, what a kernel on it raises."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(self.capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: self.capabilities[index])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: f"GPU {index}")
        monkeypatch.setattr(hardware, "_compute_once", self._compute)

    def _compute(self, place: str, precision: str) -> None:
        self.tried.append(f"{place} {precision}")
        if place in self.cannot:
            raise self.cannot[place]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return Gpus(monkeypatch)


NO_KERNELS = torch.AcceleratorError(
    "CUDA error: no kernel image is available for execution on the device\nCUDA kernel …"
)


def test_one_gpu_of_each_kind_is_tried_before_training(gpus: Gpus) -> None:
    gpus.capabilities = [(9, 0), (9, 0), (7, 5)]
    probed = probe_device("auto")
    assert (probed.device, probed.devices, probed.precision) == ("cuda", 3, "bfloat16")
    assert gpus.tried == ["cuda:0 bfloat16", "cuda:2 bfloat16"]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_without_kernels_in_torch_is_refused_with_remedies(gpus: Gpus, device: str) -> None:
    gpus.capabilities, gpus.cannot = [(7, 0)], {"cuda:0": NO_KERNELS}
    with pytest.raises(UsageError, match=r"pytorch\.org/get-started/locally; --device cpu") as caught:
        probe_device(device)
    text = str(caught.value)
    assert "GPU 0 (compute capability 7.0) it cannot: CUDA error: no kernel image" in text and "\n" not in text


def test_the_message_says_how_to_leave_one_gpu_out(gpus: Gpus) -> None:
    gpus.capabilities, gpus.cannot = [(9, 0), (6, 1)], {"cuda:1": NO_KERNELS}
    with pytest.raises(UsageError, match=r"GPU 1 .* CUDA_VISIBLE_DEVICES .* leaves it out"):
        probe_device("cuda")


def test_the_doctor_reports_a_gpu_that_cannot_compute(gpus: Gpus) -> None:
    gpus.cannot = {"cuda:0": RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")}
    check = examine("device", lambda: describe_device("auto"))
    assert not check.ok and "CUDNN_STATUS_NOT_INITIALIZED" in check.found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_probe_computes_on_a_cpu(precision: str) -> None:
    hardware._compute_once("cpu", precision)


@pytest.mark.cuda
def test_the_probe_computes_on_a_gpu() -> None:
    assert probe_device("cuda").device == "cuda"


def test_a_worker_of_the_second_gpu_records_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph is captured on a stream of the current device."""
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(str(device)))
    for place in ("cpu", "mps", "cuda", "cuda:1"):
        choose_gpu(place)
    assert chosen == ["cuda:1"]


# --- `--engine deterministic`: no algorithm whose sums vary in their order ---


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
"""torch has `put_` without a deterministic form, on a CPU either."""


def make_conditions(dataset: Dataset, **changes: Any) -> Conditions:
    return Conditions(dataset=dataset, recipe=SMALL.model_copy(update=changes), seed=0)


def test_a_network_without_a_deterministic_form_is_refused_before_training(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_module("varying_nets", NETS, tmp_path, monkeypatch) as name:
        network = {"model": find_code(f"{name}:varies", "--model"), "arch": name}
        with closing(InlineBackend("cpu")) as backend:
            backend.open(make_conditions(tiny, **network), tmp_path)
        with (
            closing(ProcessBackend("cpu", 1, 1, print)) as workers,
            pytest.raises(UsageError, match=r"put_.* does not have a deterministic implementation"),
        ):
            workers.open(make_conditions(tiny, engine="deterministic", **network), tmp_path)


def test_an_inline_sweep_restores_the_settings_of_torch(tiny: Dataset, tmp_path: Path) -> None:
    def read_settings() -> tuple[bool, ...]:
        filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, not filled

    before = read_settings()
    with closing(InlineBackend("cpu")) as backend:
        backend.open(make_conditions(tiny, engine="deterministic"), tmp_path)
        assert read_settings() == (True, True, True) and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert read_settings() == before == (False, False, False)


@pytest.mark.parametrize(
    ("place", "deterministic", "tried"), [("cpu", False, False), ("cuda", False, True), ("cuda", True, False)]
)
def test_cudnn_tries_algorithms_only_in_the_steps_of_a_gpu(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, place: str, deterministic: bool, tried: bool
) -> None:
    """In forward and backward. Evaluations have images of many sizes, and each size would be tried."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    settings = list[bool]()

    def note_setting(*_: object) -> None:
        settings.append(torch.backends.cudnn.benchmark)

    def note_both_passes(_: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        note_setting()
        output.register_hook(note_setting)

    train = divide_for_training(tiny, study_seed=0, folds=None, seed=0).train
    context = open_context(make_conditions(tiny), "cpu")
    steps = TrainingSteps(spec(), context, train)
    batch = steps._make_batch(0)
    steps.model.register_forward_hook(note_both_passes)
    steps._device = torch.device(place)  # of which nothing else is needed in a step
    settle_numerics(deterministic)
    steps._update_weights(*batch)
    settle_numerics(False)
    assert settings == [tried, tried] and not torch.backends.cudnn.benchmark
