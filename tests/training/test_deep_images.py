"""A small sweep runs on 16-bit and 12-channel images, which a network sees at one scale."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from sweeper.data import load_dataset, open_store
from sweeper.training.batches import to_inputs
from sweeper.training.model import normaliser
from tests.support import annotated
from tests.support.batches import training_batch


@pytest.mark.parametrize(("channels", "dtype"), [(12, np.uint16), (5, np.uint8), (1, np.uint16)])
def test_inputs_have_mean_0_and_deviation_1_per_channel(tmp_path, channels, dtype):
    annotated.deep(tmp_path / "data", channels, dtype)
    store = open_store(load_dataset(str(tmp_path / "data"), tmp_path / "cache").store)
    everything = tuple(range(len(store)))
    mean, std = normaliser(store, everything)
    inputs = torch.cat([to_inputs(torch.from_numpy(store.image(i).copy())[None], mean, std) for i in everything])
    assert inputs.shape == (8, channels, annotated.HEIGHT, annotated.WIDTH) and inputs.dtype == torch.float32
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(channels), atol=1e-3)
    assert torch.allclose(inputs.std((0, 2, 3)), torch.ones(channels), atol=1e-2)
    images, _, _ = training_batch(store, everything, size=32, batch_size=4, step=0, seed=0)
    assert images.shape == (4, 32, 32, channels) and str(images.dtype) == f"torch.{np.dtype(dtype).name}"


def test_a_constant_channel_is_left_at_0(tmp_path):
    annotated.deep(tmp_path / "data", 5, np.uint16)
    for index, stem in enumerate(annotated.STEMS):
        data = annotated.bands(index, 5, np.uint16)
        data[..., 2] = 7
        tifffile.imwrite(tmp_path / "data" / "images" / f"{stem}.tif", data, **annotated.layout(5))
    store = open_store(load_dataset(str(tmp_path / "data"), tmp_path / "cache").store)
    inputs = to_inputs(torch.from_numpy(store.image(0).copy())[None], *normaliser(store, (0, 1, 2)))
    assert torch.isfinite(inputs).all() and inputs[:, 2].abs().max() < 1e-3
