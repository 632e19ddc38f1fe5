"""What a machine is found to have, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sweeper.core.errors import UsageError
from sweeper.doctor import check_machine
from sweeper.training import hardware
from sweeper.training.hardware import choose_gpu, probe


class Gpus:
    """GPUs that are not there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capabilities, self.tried = [(9, 0)], list[str]()
        self.cannot: dict[str, Exception] = {}
        """By device, what a kernel on it raises."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(self.capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: self.capabilities[index])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: f"GPU {index}")
        monkeypatch.setattr(hardware, "_compute", self._compute)

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


def test_one_gpu_of_each_kind_computes_before_anything_is_trained(gpus: Gpus) -> None:
    gpus.capabilities = [(9, 0), (9, 0), (7, 5)]
    found = probe("auto")
    assert (found.device, found.devices, found.precision) == ("cuda", 3, "bfloat16")
    assert gpus.tried == ["cuda:0 bfloat16", "cuda:2 bfloat16"]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_card_that_torch_has_no_kernels_for_is_told_with_its_cure(gpus: Gpus, device: str) -> None:
    gpus.capabilities, gpus.cannot = [(7, 0)], {"cuda:0": NO_KERNELS}
    with pytest.raises(UsageError, match=r"pytorch\.org/get-started/locally; --device cpu") as told:
        probe(device)
    text = str(told.value)
    assert "GPU 0 (compute capability 7.0) it cannot: CUDA error: no kernel image" in text and "\n" not in text


def test_one_card_of_several_may_be_left_out(gpus: Gpus) -> None:
    gpus.capabilities, gpus.cannot = [(9, 0), (6, 1)], {"cuda:1": NO_KERNELS}
    with pytest.raises(UsageError, match=r"GPU 1 .* CUDA_VISIBLE_DEVICES .* leaves it out"):
        probe("cuda")


def test_the_doctor_says_the_same(gpus: Gpus, tmp_path: Path) -> None:
    gpus.cannot = {"cuda:0": RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")}
    (found,) = (check for check in check_machine(tmp_path, "auto") if check.name == "device")
    assert found.status == "broken" and "CUDNN_STATUS_NOT_INITIALIZED" in found.found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_computed_can_be_computed(precision: str) -> None:
    hardware._compute("cpu", precision)


@pytest.mark.cuda
def test_a_gpu_computes() -> None:
    assert probe("cuda").device == "cuda"


def test_a_worker_of_the_second_gpu_records_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph is captured on a stream of the current device."""
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(str(device)))
    for place in ("cpu", "mps", "cuda", "cuda:1"):
        choose_gpu(place)
    assert chosen == ["cuda:1"]
