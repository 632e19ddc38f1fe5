"""Why a training ended: by its own fault, for want of memory, or because its device can compute nothing any more."""

from __future__ import annotations

import traceback

import torch

from sweeper.system.system_errors import MEMORY, iterate_causes

_DEVICE = ("cuda error", "cuda driver error", "cublas_status_", "cudnn", "cusolver error", "hip error", "miopen")
"""Words of errors after which a CUDA or HIP context refuses all that follows, until its process ends."""


class RecordingError(RuntimeError):
    """A step could not be recorded as a CUDA graph, for whatever reason.

    torch 2.12.1 leaves its allocator in the midst of the recording (github.com/pytorch/pytorch/pull/180395), and
    perhaps more: the process is of no use any more.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or the GPU, or was raised from one that says so."""
    lost = any(isinstance(cause, RecordingError) for cause in iterate_causes(error))
    return not lost and any(_mentions_memory(cause) for cause in iterate_causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Whether an error says that the GPU is in a state in which it computes nothing more for this process.

    Such errors are sticky: an illegal memory access, a device-side assertion or a launch failure makes every later call
    of the process fail. They may be reported by a call that has nothing to do with them.
    """
    return any(_mentions_lost_device(cause) for cause in iterate_causes(error))


def is_process_fault(error: BaseException) -> bool:
    """Whether an error says more of the process than of what was computed: another process may not have it."""
    return is_out_of_memory(error) or is_device_lost(error)


def explain_failure(error: BaseException) -> str:
    """One line for people: what was raised, and where in our code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}{where}"


def _mentions_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error).lower() for sign in MEMORY)


def _mentions_lost_device(error: BaseException) -> bool:
    if isinstance(error, torch.AcceleratorError | RecordingError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _DEVICE)
