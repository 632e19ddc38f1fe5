"""Every encoder and architecture on offer either works or is refused in words, before anything is trained."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from sweeper.core.errors import UsageError
from sweeper.core.recipe import Architecture, Recipe
from sweeper.training.model import build_model
from sweeper.training.pretrained import repository
from tests.support.marks import rest_slow

NEEDS_NUMBERS = ("mit_b",)
"""Encoders that read numbers while they are built, and so cannot be built without memory."""
REFUSED = {
    ("unetplusplus", "mit_b0"): "not support",
    ("linknet", "mit_b0"): "not supported",
}


def build(encoder: str, *, arch: str = "unet", depth: int = 3, size: int = 96) -> torch.nn.Module:
    recipe = Recipe(arch=arch, encoder=encoder, encoder_depth=depth, size=size)
    where = "cpu" if encoder.startswith(NEEDS_NUMBERS) else "meta"  # no memory, nothing computed
    with torch.device(where):
        return build_model(recipe, channels=3, class_pixels=np.array([9, 1]), task="binary", seed=0)


def test_weights_are_looked_for_where_the_library_takes_them_from() -> None:
    known = {name: one["pretrained_settings"].get("imagenet", {}) for name, one in smp.encoders.encoders.items()}
    places = {name: settings["repo_id"] for name, settings in known.items() if "repo_id" in settings}
    assert len(places) > 60 and all(repository(name) == place for name, place in places.items())


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.timm-. encoders are deprecated:DeprecationWarning")
@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("encoder", list(smp.encoders.encoders))
def test_every_encoder_answers_crops_and_whole_images(encoder, depth):
    """`build_model` tries it on a crop and on an image that is not square."""
    assert isinstance(build(encoder, depth=depth), torch.nn.Module)


@pytest.mark.parametrize("depth", rest_slow([3, 5]))
@pytest.mark.parametrize("encoder", rest_slow(["mit_b0", "resnet18"]))
@pytest.mark.parametrize("arch", get_args(Architecture))
def test_every_architecture_answers_or_says_why_not(arch, encoder, depth):
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
def test_encoders_that_cannot_answer_every_size_are_refused_in_words(encoder, size, words):
    with pytest.raises(UsageError, match=words):
        build(encoder, size=size)


def test_unused_stages_are_still_removed():
    encoder = build("resnet18").encoder
    assert isinstance(encoder.layer4, torch.nn.Identity)
    assert not isinstance(encoder.layer2, torch.nn.Identity)
