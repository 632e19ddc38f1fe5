"""The network: which encoders and architectures work, how it starts, and how its inputs are normalised."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import tifffile
import torch
from torch import nn

from sweeper.core.errors import UsageError
from sweeper.core.recipe import Architecture, Recipe
from sweeper.core.records import Dataset, Task
from sweeper.core.tasks import RULES
from sweeper.data import load_dataset, open_store
from sweeper.training.batches import normalise_inputs
from sweeper.training.model import WeightAverage, build_model, copy_initial_model, make_normaliser
from tests.support import annotated
from tests.support.batches import training_batch
from tests.support.marks import rest_slow
from tests.support.small_training import SMALL

NEEDS_NUMBERS = ("mit_b",)
"""Encoders that read numbers while they are built, and so cannot be built without memory."""
REFUSED = {("unetplusplus", "mit_b0"): "not support", ("linknet", "mit_b0"): "not supported"}


def build(encoder: str, *, arch: str = "unet", depth: int = 3, size: int = 96) -> torch.nn.Module:
    recipe = Recipe(arch=arch, encoder=encoder, encoder_depth=depth, size=size)
    device = "cpu" if encoder.startswith(NEEDS_NUMBERS) else "meta"  # no memory, nothing computed
    with torch.device(device):
        return build_model(recipe, channels=3, bias=(-2.2,), seed=0)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.timm-. encoders are deprecated:DeprecationWarning")
@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("encoder", list(smp.encoders.encoders))
def test_every_encoder_accepts_crops_and_whole_images(encoder, depth):
    """`build_model` tries it on a crop and on an image that is not square."""
    assert isinstance(build(encoder, depth=depth), torch.nn.Module)


@pytest.mark.parametrize("depth", rest_slow([3, 5]))
@pytest.mark.parametrize("encoder", rest_slow(["mit_b0", "resnet18"]))
@pytest.mark.parametrize("arch", get_args(Architecture))
def test_every_architecture_accepts_images_or_is_refused_with_a_reason(arch, encoder, depth):
    if words := REFUSED.get((arch, encoder)):
        with pytest.raises(UsageError, match=words):
            build(encoder, arch=arch, depth=depth)
    else:
        assert isinstance(build(encoder, arch=arch, depth=depth), torch.nn.Module)


@pytest.mark.parametrize(
    ("encoder", "size", "words"),
    [
        ("tu-swin_tiny_patch4_window7_224", 96, r"fails on 96×96: .*224.*; choose another --encoder"),
        ("tu-swin_tiny_patch4_window7_224", 224, r"fails on 224×232: .*; choose another --encoder"),
        ("tu-maxvit_tiny_tf_224", 224, r"fails on 224×232: .*divisible by window.*; choose another --encoder"),
        ("mit_b0", 16, r"fails on 16×16: .*; choose another --encoder, or.* larger images and --size"),
        ("resnet1", 96, "resnet1"),
        ("tu-resnet1", 96, "resnet1"),
    ],
)
def test_encoders_that_do_not_accept_every_size_are_refused(encoder, size, words):
    with pytest.raises(UsageError, match=words):
        build(encoder, size=size)


def test_unused_stages_are_still_removed():
    encoder = build("resnet18").encoder
    assert isinstance(encoder.layer4, torch.nn.Identity)
    assert not isinstance(encoder.layer2, torch.nn.Identity)


# --- How it starts ---


@pytest.mark.parametrize(("pixels", "task"), [((990, 10), "binary"), ((90, 9, 1, 0), "multiclass")])
def test_the_output_starts_at_the_log_prior(pixels: tuple[int, ...], task: Task) -> None:
    start = RULES[task].compute_start(np.array(pixels[RULES[task].first_channel :]), sum(pixels))
    model = build_model(SMALL, channels=1, bias=start.tolist(), seed=0)
    bias = [m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)][-1].bias
    assert bias is not None
    prior = bias.sigmoid().tolist() if task == "binary" else bias.softmax(0).tolist()
    # A class without pixels starts as rare as one pixel.
    assert prior == pytest.approx([0.01] if task == "binary" else [90 / 101, 9 / 101, 1 / 101, 1 / 101], rel=1e-4)


def test_the_average_follows_weights_and_batchnorm_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    average = WeightAverage(model, horizon=10)
    unused = nn.Linear(1, 1)
    assert unused.weight.grad is None
    for _ in range(400):
        model.zero_grad()
        model(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)) + 3).sum().backward()
        average.update(model)
    norm, mean = model[1], average.model[1]  # type: ignore[index]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.allclose(mean.running_mean, norm.running_mean, atol=1e-3)
    assert norm.running_mean is not None and norm.running_mean.abs().max() > 0.1
    assert torch.allclose(average.model[0].weight, model[0].weight)  # type: ignore[index]
    assert not average.model.training


def test_trainings_of_one_seed_share_their_initial_network_and_nothing_else(tiny: Dataset) -> None:
    arguments: dict[str, Any] = {"channels": 3, "bias": RULES[tiny.task].compute_bias(tiny)}
    one, two, other = (copy_initial_model(SMALL, seed=seed, **arguments) for seed in (0, 0, 1))
    fresh = build_model(SMALL, seed=0, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), fresh.state_dict().values(), strict=True))
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert not torch.equal(next(one.parameters()), next(two.parameters()))
    assert not torch.equal(next(two.parameters()), next(other.parameters()))


# --- Its inputs ---


@pytest.mark.parametrize(("channels", "dtype"), [(12, np.uint16), (5, np.uint8), (1, np.uint16)])
def test_inputs_have_mean_0_and_deviation_1_per_channel(tmp_path, channels, dtype):
    annotated.deep(tmp_path / "data", channels, dtype)
    store = open_store(load_dataset(str(tmp_path / "data"), tmp_path / "cache").store)
    everything = tuple(range(len(store)))
    mean, std = make_normaliser(store, everything)
    inputs = torch.cat(
        [normalise_inputs(torch.from_numpy(store.get_image(i).copy())[None], mean, std) for i in everything]
    )
    assert inputs.shape == (8, channels, annotated.HEIGHT, annotated.WIDTH) and inputs.dtype == torch.float32
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(channels), atol=1e-3)
    assert torch.allclose(inputs.std((0, 2, 3)), torch.ones(channels), atol=1e-2)
    images, _, _ = training_batch(store, everything, size=32, batch_size=4, step=0, seed=0)
    assert images.shape == (4, 32, 32, channels) and str(images.dtype) == f"torch.{np.dtype(dtype).name}"


def test_a_constant_channel_is_normalised_to_0(tmp_path):
    annotated.deep(tmp_path / "data", 5, np.uint16)
    for index, stem in enumerate(annotated.STEMS):
        data = annotated.bands(index, 5, np.uint16)
        data[..., 2] = 7
        tifffile.imwrite(tmp_path / "data" / "images" / f"{stem}.tif", data, **annotated.layout(5))
    store = open_store(load_dataset(str(tmp_path / "data"), tmp_path / "cache").store)
    inputs = normalise_inputs(torch.from_numpy(store.get_image(0).copy())[None], *make_normaliser(store, (0, 1, 2)))
    assert torch.isfinite(inputs).all() and inputs[:, 2].abs().max() < 1e-3


@pytest.mark.parametrize(
    ("encoder", "near"),
    [("resnet43", "`resnet34`?"), ("tu-convnext_tinny", "`tu-convnext_tiny`?"), ("zzz", "supported encoders")],
)
def test_an_unknown_encoder_is_refused_with_a_similar_name(encoder, near):
    with pytest.raises(UsageError) as caught:
        build(encoder)
    text = str(caught.value)
    assert f"encoder `{encoder}`" in text and near in text and len(text) < 500
