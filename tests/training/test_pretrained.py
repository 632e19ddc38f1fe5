"""ImageNet weights of encoders: their source, the inputs that they need, and hubs that do not serve them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import constants, utils
from safetensors.torch import save

from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe
from sweeper.training import pretrained
from sweeper.training.model import _build_library_network
from sweeper.training.pretrained import PendingDownload, fetch_imagenet, find_imagenet_source, get_encoder_inputs
from tests.support.hub import Hub, Manner, serve_hub

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FILES = {
    "config.json": json.dumps({"mean": [127.5, 102.0, 51.0], "std": [25.5] * 3, "input_range": [0, 255]}).encode(),
    "model.safetensors": save({"conv1.weight": torch.zeros(2)}),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub's, and a library that may ask it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # What its later releases request of the hub besides, once a process.
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents.json"), raising=False)
    if (agents := sys.modules.get("huggingface_hub.utils._detect_agent")) is not None:
        monkeypatch.setattr(agents, "_registry", None)
    return tmp_path


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def run_hub(manner: Manner, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes] = FILES) -> Iterator[Hub]:
    """Run a hub that the library asks; an answer is awaited briefly only from one that hangs."""
    if manner == "hangs":
        monkeypatch.setattr(pretrained, "ANSWER_SECONDS", 1.0)
    with serve_hub(manner, files) as hub:
        point_to(hub.address, monkeypatch)
        yield hub


def is_cached(encoder: str) -> bool:
    source = find_imagenet_source(encoder)
    return source is not None and source.find_cached("model.safetensors") is not None


def fetch_messages(encoder: str) -> list[Any]:
    """Return what `fetch_imagenet` sends, except the first None."""
    ours, theirs = Pipe()
    fetch_imagenet(theirs, encoder)
    utils.enable_progress_bars()
    messages = []
    while ours.poll(0):
        messages.append(ours.recv())
    assert messages[0] is None
    return messages[1:]


def test_weights_have_the_source_that_the_library_uses() -> None:
    settings_of = {
        name: encoder["pretrained_settings"].get("imagenet", {}) for name, encoder in smp.encoders.encoders.items()
    }
    by_library = {
        name: encoder
        for name, encoder in settings_of.items()
        if "repo_id" in encoder and pretrained.get_timm_name(name) is None
    }
    assert len(by_library) > 50
    for name, settings in by_library.items():
        source = find_imagenet_source(name)
        assert source is not None and source[:2] == (settings["repo_id"], settings["revision"])
    for name in ("tu-tf_efficientnet_lite0", "tu-resnet18.a1_in1k", "timm-regnetx_002", "timm-mobilenetv3_small_100"):
        source = find_imagenet_source(name)
        assert source is not None and source.repository.startswith("timm/") and source.revision is None
    for name in ("resnext101_32x16d", "tu-no_such_network", "no_such_network"):
        assert find_imagenet_source(name) is None


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("resnet18", (IMAGENET_MEAN, IMAGENET_STD)),
        ("mit_b0", (IMAGENET_MEAN, IMAGENET_STD)),
        ("efficientnet-b1", (IMAGENET_MEAN, IMAGENET_STD)),
        ("tu-tf_efficientnet_lite0", HALF),
        ("tu-mobilenetv4_conv_small", (IMAGENET_MEAN, IMAGENET_STD)),
        ("tu-resnet50.fb_swsl_ig1b_ft_in1k", (IMAGENET_MEAN, IMAGENET_STD)),
        ("tu-vit_base_patch16_224", HALF),
        ("timm-tf_efficientnet_lite3", HALF),
        ("xception", HALF),
        ("inceptionresnetv2", HALF),
        ("tu-no_such_network", (IMAGENET_MEAN, IMAGENET_STD)),
    ],
)
def test_each_encoder_has_the_inputs_of_its_weights(encoder: str, expected: Any, cache: Path) -> None:
    assert get_encoder_inputs(encoder) == expected


def test_dual_path_networks_have_the_same_inputs_as_in_timm(cache: Path) -> None:
    for ours, theirs in zip(get_encoder_inputs("dpn68"), get_encoder_inputs("tu-dpn68"), strict=True):
        assert ours == pytest.approx(theirs)


def test_a_hub_is_requested_once_and_its_configuration_scaled_to_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_hub("serves", monkeypatch) as hub:
        assert not is_cached("resnet18")
        download, inputs = fetch_messages("resnet18")
        assert download == PendingDownload(f"{hub.address}/smp-hub/resnet18.imagenet", len(FILES["model.safetensors"]))
        assert inputs.mean == pytest.approx((0.5, 0.4, 0.2)) and inputs.std == pytest.approx((0.1, 0.1, 0.1))
        assert is_cached("resnet18") and not is_cached("resnet34")
        assert all("/resolve/" in line for line in hub.asked)  # the weights, and nothing besides
        hub.asked.clear()
        assert fetch_messages("resnet18") == [inputs] and hub.asked == []
    assert get_encoder_inputs("resnet18") == inputs


def test_weights_that_were_cut_are_downloaded_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_hub("serves", monkeypatch):
        fetch_messages("resnet18")
        (weights,) = (path.resolve() for path in cache.rglob("model.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1])
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert fetch_messages("resnet18") == ["HF_HUB_OFFLINE forbids it"]
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        assert isinstance(fetch_messages("resnet18")[0], PendingDownload)
        assert weights.read_bytes() == FILES["model.safetensors"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("encoder", "manner", "words"),
    [
        ("resnet34", "has nothing", "404"),
        ("tu-mobilenetv3_small_050", "has nothing", "404"),
        ("resnet34", "forbids", "403"),
        ("tu-mobilenetv3_small_050", "forbids", "403"),
        ("resnet34", "is overloaded", "503"),
        ("tu-mobilenetv3_small_050", "is overloaded", "503"),
        ("resnet34", "hangs", "timed out"),
        ("tu-mobilenetv3_small_050", "hangs", "timed out"),
    ],
)
def test_a_hub_that_does_not_serve_is_requested_once_and_quoted_shortly(encoder, manner, words, monkeypatch, capfd):
    with run_hub(manner, monkeypatch) as hub:
        (reason,) = fetch_messages(encoder)
        assert isinstance(reason, str) and words in reason and len(reason) < 200 and "http" not in reason
        assert len([line for line in hub.asked if "resolve" in line]) == 1
    assert capfd.readouterr() == ("", "") and not is_cached(encoder)


def test_an_absent_hub_and_a_forbidden_hub_are_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_hub("serves", monkeypatch) as hub:
        assert fetch_messages("resnext101_32x16d") == ["its library offers none"] and hub.asked == []
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert fetch_messages("resnet18") == ["HF_HUB_OFFLINE forbids it"] and hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (reason,) = fetch_messages("resnet18")
    assert "refused" in reason


@pytest.mark.filterwarnings("ignore:.timm-. encoders are deprecated:DeprecationWarning")
@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_050", "timm-regnetx_002"])
def test_networks_load_weights_from_the_cache_without_a_request(
    encoder: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import timm

    name = pretrained.get_timm_name(encoder)
    network = smp.encoders.get_encoder(encoder, weights=None) if name is None else timm.create_model(name)
    state = {key: torch.rand_like(t) if t.is_floating_point() else t for key, t in network.state_dict().items()}
    with run_hub("serves", monkeypatch, {**FILES, "model.safetensors": save(state)}) as hub:
        assert len(fetch_messages(encoder)) == 2
        hub.asked.clear()
        loaded = _build_library_network(Recipe(encoder=encoder), 3, 1, imagenet=True).state_dict()
        assert hub.asked == [] and not caplog.records  # timm lists each tensor of a head that is not used
    start = "encoder." if name is None else "encoder.model."
    shared = [key for key in state if start + key in loaded]
    assert len(shared) > 50 and all(torch.equal(loaded[start + key], state[key]) for key in shared)
