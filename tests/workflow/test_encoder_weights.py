"""The initial weights of an encoder: the choice, its log lines, and the time limit of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from sweeper.core.errors import UsageError
from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD
from sweeper.training.pretrained import EncoderInputs
from sweeper.workflow import encoder_weights
from sweeper.workflow.encoder_weights import NOTHING, EncoderWeights, choose_weights, read_imagenet_inputs
from tests.support.hub import Manner, serve_hub

HALF = EncoderInputs((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def choose(
    option: str | None, encoder: str = "resnet18", *, synthetic: bool = False
) -> tuple[EncoderWeights, list[str]]:
    lines: list[str] = []
    return choose_weights(option, encoder, synthetic=synthetic, log=lines.append), lines


@pytest.mark.parametrize(("option", "synthetic"), [("none", False), ("none", True), (None, True), ("auto", True)])
def test_no_hub_is_used_for_synthetic_images_or_without_pretrained_weights(
    option: str | None, synthetic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_weights, "read_imagenet_inputs", lambda *_: pytest.fail("a hub was used"))
    assert choose(option, synthetic=synthetic) == (NOTHING, [])
    assert NOTHING.inputs == (IMAGENET_MEAN, IMAGENET_STD)  # as trainings without weights always had


@pytest.mark.parametrize("option", [None, "auto", "imagenet"])
def test_available_weights_determine_the_normalisation_of_inputs(
    option: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_weights, "read_imagenet_inputs", lambda *_: HALF)
    weights, lines = choose(option, "inceptionv4")
    assert weights == EncoderWeights("imagenet", HALF) and len(lines) == 1
    assert "ImageNet's of inceptionv4; inputs are normalised by mean (0.5, 0.5, 0.5)" in lines[0]


def test_missing_weights_are_refused_where_required_and_else_reported_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder_weights, "read_imagenet_inputs", lambda *_: "no route")
    weights, (line,) = choose("auto", "resnet50")
    assert weights == NOTHING and "none (random), as ImageNet's of resnet50 are not whole in the local cache" in line
    assert "(no route)" in line and "--encoder-weights FILE" in line
    with pytest.raises(UsageError, match=r"imagenet needs ImageNet weights of resnet50, .*\(no route\); give .*FILE"):
        choose("imagenet", "resnet50")


@pytest.mark.parametrize(
    ("encoder", "inputs"), [("tu-tf_efficientnet_lite0", HALF), ("xception", HALF), ("resnet18", NOTHING.inputs)]
)
def test_weights_of_a_file_have_the_inputs_of_their_encoder(
    encoder: str, inputs: EncoderInputs, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    weights, (line,) = choose(str(file), encoder)
    assert weights == EncoderWeights(str(file), inputs) and f"mean {inputs.mean}" in line


def test_without_a_cache_an_offline_hub_costs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(encoder_weights, "LaunchedProcess", lambda *_: pytest.fail("started"))
    assert read_imagenet_inputs("resnet18", pytest.fail) == "HF_HUB_OFFLINE forbids it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manner", "expected"),
    [
        ("serves", HALF),
        ("has nothing", "HfHubHTTPError: Client error '404 Not Found'"),
        ("hangs", "ReadTimeout: timed out"),
        ("drips", "no answer within 3 s"),
    ],
)
def test_another_process_downloads_from_the_hub_and_is_ended_in_time(
    manner: Manner, expected, tmp_path, monkeypatch, capfd
):
    files = {
        "config.json": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}).encode(),
        "model.safetensors": save({"conv1.weight": torch.zeros(99)}),
    }
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(encoder_weights, "DOWNLOAD_SECONDS", 3.0)
    monkeypatch.setattr(encoder_weights, "begin_loading", lambda: "spawn")  # it reads the variables below
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    lines: list[str] = []
    with serve_hub(manner, files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        assert read_imagenet_inputs("resnet18", lines.append) == expected
    assert len(lines) == (manner in {"serves", "drips"})
    assert not lines or f"from {hub.address}/smp-hub/resnet18.imagenet for at most 3 s" in lines[0]
    assert capfd.readouterr() == ("", "")
