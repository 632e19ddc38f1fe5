"""Real ImageNet weights through `--encoder-weights FILE`: the encoder recognises photographs, and learns sooner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from PIL import Image
from torch import Tensor

from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe
from sweeper.data import load_dataset, open_store
from sweeper.training.batches import normalise_inputs
from sweeper.training.encoder_file import load_encoder
from sweeper.training.model import make_normaliser
from sweeper.training.pretrained import EncoderInputs, get_encoder_inputs
from tests.support.real_weights import MODEL, published_weights, weights_file
from tests.support.small_training import train

ENCODER = f"tu-{MODEL}"
PHOTOGRAPHS = {"flower.jpg": 985, "china.jpg": 698}
"""Of scikit-learn → ImageNet's class: a daisy, a palace."""


def write_photograph(name: str, folder: Path) -> str:
    """Write the middle of a photograph, 224², as a data set, three times over, as fewer are refused."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    image = Image.fromarray(datasets.load_sample_image(name))
    (width, height), side = image.size, min(image.size)
    left, top = (width - side) // 2, (height - side) // 2
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    middle = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    for stem in "abc":
        middle.save(folder / "images" / f"{stem}.png")
        Image.fromarray(np.eye(224, dtype=np.uint8)).save(folder / "masks" / f"{stem}.png")
    return str(folder)


@torch.no_grad()
def compute_probability(name: str, inputs: EncoderInputs, folder: Path) -> float:
    """Return what the encoder, its head put back, gives the class of a photograph that is normalised so."""
    file = weights_file(folder)
    encoder = smp.encoders.get_encoder(ENCODER, weights=None)
    load_encoder(encoder, ENCODER, str(file))
    head = timm.create_model(MODEL)
    head.load_state_dict(published_weights())
    store = open_store(load_dataset(write_photograph(name, folder), folder / "cache").store)
    images = normalise_inputs(torch.from_numpy(store.get_image(0).copy())[None], *make_normaliser(store, (0,), inputs))
    deepest: Tensor = encoder.eval()(images)[-1]
    logits = head.eval().forward_head(head.bn2(head.conv_head(deepest)))
    return float(logits.softmax(1)[0, PHOTOGRAPHS[name]])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_encoder_recognises_a_photograph(name: str, tmp_path: Path) -> None:
    assert compute_probability(name, get_encoder_inputs(ENCODER), tmp_path) > 0.2  # of a thousand classes


def test_inputs_of_another_scale_are_recognised_worse(tmp_path: Path) -> None:
    assert compute_probability("flower.jpg", EncoderInputs(IMAGENET_MEAN, IMAGENET_STD), tmp_path) < 0.15


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("depth", [3, 4])
def test_a_few_steps_from_real_weights_reach_more_than_from_random_ones(
    depth: int, tmp_path: Path, real_data: Path
) -> None:
    file, inputs = weights_file(tmp_path), get_encoder_inputs(ENCODER)
    dataset = load_dataset(str(real_data / "cracks_cfd"), tmp_path / "cache")
    plain = Recipe(encoder=ENCODER, encoder_depth=depth, decoder_width=8, size=64, steps=20, evaluations=1)
    real = {"encoder_weights": str(file), "input_mean": inputs.mean, "input_std": inputs.std}
    values = [
        train(dataset, recipe, family="dice_ce", params={"mix": 0.5}, steps=20).value
        for recipe in (plain, plain.model_copy(update=real))
    ]
    assert values[1] > values[0] + 0.03  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.real_data
def test_the_default_on_a_cpu_is_the_small_encoder_with_cached_weights(tmp_path: Path, real_data: Path) -> None:
    commit = "0" * 40
    repository = tmp_path / "home" / "hub" / f"models--timm--{MODEL}.in1k"
    for folder, name, text in (("snapshots", commit, None), ("refs", "main", commit)):
        (repository / folder / name).parent.mkdir(parents=True)
        if text is not None:
            (repository / folder / name).write_text(text)
    (repository / "snapshots" / commit).mkdir()
    weights_file(repository / "snapshots" / commit)
    command = [sys.executable, "-m", "sweeper", "run", str(real_data / "cracks_cfd"), "--dry-run", "--device", "cpu"]
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    words = "U-Net/EfficientNet-Lite0 cut to depth 4 of 5 with decoder 64-32-16-8 with ImageNet weights"
    assert words in done.stdout
    assert "Unexpected keys" not in done.stderr  # timm's, of the head that is not used
