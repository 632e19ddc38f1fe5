"""Causes of errors: too little memory, and a lost device."""

from __future__ import annotations

import pytest
import torch

from sweeper.training.failure_causes import is_device_lost, is_out_of_memory


def test_errors_of_memory_and_of_a_lost_device_are_recognised() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"))
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert is_device_lost(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert is_device_lost(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_device_lost(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    assert not is_device_lost(RuntimeError("shapes do not match"))
    assert not is_device_lost(ValueError("CUDA error"))


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA error: unspecified launch failure")])
def test_the_cause_of_a_wrapped_error_is_recognised(error: Exception) -> None:
    try:
        try:
            raise error
        except Exception as caught:
            raise ValueError("the network could not be built") from caught
    except ValueError as outer:
        assert is_out_of_memory(outer) == isinstance(error, MemoryError)
        assert is_device_lost(outer) == isinstance(error, RuntimeError)
