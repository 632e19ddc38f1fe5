"""Abilities of this machine, and the process settings for training on it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sweeper.core.errors import UsageError
from sweeper.core.events import WorkerHardware
from sweeper.core.recipe import Precision
from sweeper.core.text import format_count
from sweeper.system.machine import get_processor_name

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def probe_device(device: str) -> WorkerHardware:
    """Resolve `auto|cpu|cuda|mps` on this machine.

    The precision is one that the processor supports natively. Whether it is faster on a CPU is measured once the recipe
    is known (`sweeper.training.probe_steps`).

    Raises:
        UsageError: if the requested device does not exist, or torch cannot compute on one of the GPUs.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("--device cuda needs an NVIDIA GPU that torch can use; none was found. Use --device cpu.")
        precision: Precision = "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float32"
        _try_gpus(precision)
        return WorkerHardware(
            device="cuda", devices=torch.cuda.device_count(), name=torch.cuda.get_device_name(), precision=precision
        )
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError("--device mps needs an Apple GPU; none was found. Use --device cpu.")
        return WorkerHardware(device="mps", devices=1, name="Apple GPU", precision="float32")
    flags = torch.backends.cpu.get_cpu_capability()
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return WorkerHardware(
        device="cpu",
        devices=1,
        name=f"CPU ({flags})",
        precision="bfloat16" if bf16 else "float32",
        processor=get_processor_name(),
    )


def _try_gpus(precision: Precision) -> None:
    """Run a small computation on one GPU of each kind, so that failures show before workers start.

    Raises:
        UsageError: if one fails, with what helps.
    """
    count, tried = torch.cuda.device_count(), set[tuple[int, int]]()
    for index in range(count):
        if (kind := torch.cuda.get_device_capability(index)) in tried:
            continue
        tried.add(kind)
        try:
            _compute_once(f"cuda:{index}", precision)
        except RuntimeError as error:
            name = f"{torch.cuda.get_device_name(index)} (compute capability {kind[0]}.{kind[1]})"
            reason = str(error).strip().split("\n")[0][:200]
            others = ", CUDA_VISIBLE_DEVICES with the numbers of the other GPUs leaves it out" if count > 1 else ""
            raise UsageError(
                f"torch {torch.__version__} must be able to compute on the GPU, and on {name} it cannot: {reason}. "
                "nvidia-smi shows whether another program fills it and which CUDA its driver has; builds of torch for "
                f"other cards and drivers are on https://pytorch.org/get-started/locally{others}; --device cpu does "
                "without it"
            ) from error


def _compute_once(place: str, precision: Precision) -> None:
    """Compute a convolution and a matrix product, and wait for the result."""
    options: dict[str, Any] = {"dtype": getattr(torch, precision), "device": place}
    images, weights = torch.ones((1, 8, 16, 16), **options), torch.ones((8, 8, 3, 3), **options)
    features = torch.nn.functional.conv2d(images, weights, padding=1).relu().flatten(1)
    float((features @ features.T).sum())


def get_device_name(device: torch.device) -> str:
    """Return a device's display name: the GPU's name, or `cpu, 1 thread`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {format_count(count_torch_threads(), 'thread')}"


def count_torch_threads() -> int:
    """Return the number of torch's threads in this process."""
    return torch.get_num_threads()


def choose_gpu(place: str) -> None:
    """Make `cuda:N` this process's current device; do nothing for other places.

    Streams and recordings belong to the current device, even if the tensors are on another.
    """
    device = torch.device(place)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def move_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, for work that is queued there later.

    A copy to a GPU uses page-locked memory, so that the processor does not wait for the GPU's earlier work.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def settle_numerics(deterministic: bool) -> None:
    """Restrict torch to deterministic algorithms, or allow the fastest ones (torch's default).

    On a CPU with a fixed number of threads the numbers are the same either way. cuBLAS reads its workspace size from
    the environment when a stream first needs a workspace; only a fixed size gives a fixed order of sums
    (docs.nvidia.com/cuda/cublas, "Results reproducibility"). An operation without a deterministic algorithm raises a
    RuntimeError that names it.
    """
    if deterministic:
        os.environ.setdefault(CUBLAS, ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    # Not needed: nothing here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = not deterministic  # type: ignore[attr-defined]


@contextmanager
def use_fastest_kernels(device: torch.device) -> Iterator[None]:
    """Let cuDNN, on a GPU, time its algorithms for each new convolution in the block, and use the fastest.

    Use it for training steps, which all have one shape; the first step takes longer. Evaluated images have many sizes,
    each of which would be timed. With deterministic algorithms nothing is timed, because the fastest may vary.
    """
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def settle_process(threads: int) -> None:
    """Prepare this process for training on a CPU with `threads` threads.

    Denormals are flushed to zero, because they slow convolutions a hundredfold. glibc keeps freed memory: each training
    step frees and allocates the same large blocks, and returning them to the kernel causes many page faults.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
            libc.mallopt(m_mmap_threshold, 32 << 20)
            libc.mallopt(m_trim_threshold, 64 << 20)
            libc.mallopt(m_top_pad, 16 << 20)
