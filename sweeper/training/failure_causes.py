"""Causes of a failed training: its own fault, lack of memory, or a lost device."""

from __future__ import annotations

import traceback

import torch

from sweeper.core.errors import get_cause, iterate_causes
from sweeper.system.machine import MEMORY

_DEVICE = ("cuda error", "cuda driver error", "cublas_status_", "cudnn", "cusolver error", "hip error", "miopen")
"""Words of errors after which a CUDA or HIP context refuses all later calls of the process."""


class RecordingError(RuntimeError):
    """A step could not be recorded as a CUDA graph, for whatever reason.

    torch 2.12.1 leaves its allocator, and perhaps more, in the recording state
    (github.com/pytorch/pytorch/pull/180395): the process cannot be used any more.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or its cause, reports that the machine or GPU is out of memory."""
    lost = any(isinstance(cause, RecordingError) for cause in iterate_causes(error))
    return not lost and any(_mentions_memory(cause) for cause in iterate_causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Return whether an error makes the GPU unusable for this process.

    Such errors are sticky: an illegal memory access, a device-side assertion or a launch failure makes every later call
    of the process fail. An unrelated call may report them.
    """
    return any(_mentions_lost_device(cause) for cause in iterate_causes(error))


def is_process_fault(error: BaseException) -> bool:
    """Return whether an error depends on the process, so that another process may not have it."""
    return is_out_of_memory(error) or is_device_lost(error)


def explain_failure(error: BaseException) -> str:
    """Format an error on one line, with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    text = get_cause(error, 500)
    return f"{type(error).__name__}: {text}{where}"


def _mentions_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error).lower() for sign in MEMORY)


def _mentions_lost_device(error: BaseException) -> bool:
    if isinstance(error, torch.AcceleratorError | RecordingError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _DEVICE)
